"""Asks a scorer through KServe's client, in that client's own environment, and prints what came back as JSON."""

import asyncio
import json
import os
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

given = json.load(sys.stdin)
url, endpoint = given["url"], given["endpoint"]
rows = np.array(given["rows"], dtype=np.float32)


def bearer() -> dict[str, str]:
    """New each time: the client writes into it."""
    return {"Authorization": f"Bearer {os.environ['TOKEN']}"}


def request(metadata: dict[str, Any], binary: bool, values: Any = rows) -> InferRequest:
    tensor = InferInput(metadata["inputs"][0]["name"], list(values.shape), "FP32")
    tensor.set_data_from_numpy(values, binary_data=binary)
    wanted = [RequestedOutput(o["name"], parameters={"binary_data": binary}) for o in metadata["outputs"]]
    return InferRequest(model_name=endpoint, infer_inputs=[tensor], request_id="b-1", request_outputs=wanted)


def told(answer: Any) -> dict[str, Any]:
    outputs = {output.name: output.as_numpy().tolist() for output in answer.outputs}
    return {"id": answer.id, "model_name": answer.model_name, "outputs": outputs}


async def run() -> dict[str, Any]:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    metadata = httpx.get(f"{url}/v2/models/{endpoint}", headers=bearer()).raise_for_status().json()

    async def infer(asked: Any, name: str = endpoint, headers: dict[str, str] | None = None) -> dict[str, Any]:
        shown = bearer() if headers is None else headers
        return told(await client.infer(url, asked, model_name=name, headers=shown))

    async def refusal(asked: Any, **options: Any) -> Any:
        try:
            await infer(asked, **options)
        except httpx.HTTPStatusError as error:
            return {"status": str(error.response.status_code), "message": str(error)}
        return None

    return {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, endpoint, headers=bearer()),
        "forms": {form: await infer(request(metadata, form == "binary")) for form in ("json", "binary")},
        "one_row": await infer(request(metadata, True, rows[:1])),
        "refusals": {
            "unknown endpoint": await refusal(request(metadata, False), name="no-such-endpoint"),
            "no token": await refusal(request(metadata, False), headers={}),
            "wrong shape": await refusal(request(metadata, True, rows[:, :2])),
            "no inputs": await refusal({"inputs": []}),
        },
    }


print(json.dumps(asyncio.run(run())))
