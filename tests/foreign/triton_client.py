"""Asks a scorer through NVIDIA's client, in that client's own environment, and prints what came back as JSON."""

import asyncio
import json
import os
import sys
from itertools import product
from typing import Any

import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio

AT_ONCE = 32

given = json.load(sys.stdin)
host, endpoint = given["url"].removeprefix("http://"), given["endpoint"]
rows = np.array(given["rows"], dtype=np.float32)
client = http.InferenceServerClient(host)


def bearer() -> dict[str, str]:
    """New each time: the client writes into it."""
    return {"Authorization": f"Bearer {os.environ['TOKEN']}"}


metadata = client.get_model_metadata(endpoint, headers=bearer())
first = metadata["inputs"][0]["name"]


def tensors(binary: bool = True, values: Any = rows, datatype: str = "FP32", module: Any = http) -> list[Any]:
    tensor = module.InferInput(first, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return [tensor]


def columns() -> list[Any]:
    """The rows as columns by their names, binary as this client has it by default."""
    made: list[Any] = []
    for number, name in enumerate(metadata["parameters"]["columns"]):
        made.append(http.InferInput(name, [len(rows)], "FP32"))
        made[-1].set_data_from_numpy(np.ascontiguousarray(rows[:, number]))
    return made


def told(answer: Any) -> dict[str, Any]:
    said = answer.get_response()
    return {
        "id": said.get("id"), "model_name": said["model_name"], "inference_id": said["parameters"]["inference_id"],
        "outputs": {o["name"]: answer.as_numpy(o["name"]).tolist() for o in said["outputs"]},
    }  # fmt: skip


def infer(**options: Any) -> dict[str, Any]:
    return told(client.infer(endpoint, options.pop("inputs", tensors()), headers=bearer(), **options))


def in_every_form() -> dict[str, Any]:
    """JSON and binary tensors, both ways."""
    answers: dict[str, Any] = {}
    for binary_in, binary_out in product((False, True), repeat=2):
        wanted = [http.InferRequestedOutput(o["name"], binary_data=binary_out) for o in metadata["outputs"]]
        form = f"{'binary' if binary_in else 'json'} in, {'binary' if binary_out else 'json'} out"
        answers[form] = infer(inputs=tensors(binary_in), outputs=wanted, request_id="a-1")
    return answers


def refusal(name: str = endpoint, inputs: list[Any] | None = None, headers: dict[str, str] | None = None) -> Any:
    try:
        client.infer(name, tensors() if inputs is None else inputs, headers=bearer() if headers is None else headers)
    except http.InferenceServerException as error:
        return {"status": str(error.status()), "message": error.message()}
    return None


async def at_once() -> list[Any]:
    async with aio.InferenceServerClient(host) as one:
        asked = (one.infer(endpoint, tensors(module=aio), headers=bearer()) for _ in range(AT_ONCE))
        return [told(answer) for answer in await asyncio.gather(*asked)]


print(json.dumps({
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": client.is_model_ready(endpoint, headers=bearer()),
    "unknown_ready": client.is_model_ready("no-such-endpoint", headers=bearer()),
    "server": client.get_server_metadata(headers=bearer()),
    "metadata": metadata,
    "index": [model["name"] for model in client.get_model_repository_index(headers=bearer())],
    "forms": in_every_form(),
    "plain": infer(),
    "by_name": infer(inputs=columns()),
    "one_row": infer(inputs=tensors(values=rows[:1])),
    "gzip": infer(request_compression_algorithm="gzip", response_compression_algorithm="gzip"),
    "deflate": infer(request_compression_algorithm="deflate", response_compression_algorithm="deflate"),
    "at_once": asyncio.run(at_once()),
    "refusals": {
        "unknown endpoint": refusal("no-such-endpoint"),
        "no token": refusal(headers={}),
        "wrong token": refusal(headers={"Authorization": "Bearer nonsense"}),
        "wrong shape": refusal(inputs=tensors(values=rows[:, :2])),
        "wrong datatype": refusal(inputs=tensors(values=np.array([b"x"], dtype=object), datatype="BYTES")),
    },
}))  # fmt: skip
