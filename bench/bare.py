"""The limit: the same model behind a bare ASGI application on uvicorn: no token, no schema, no log."""

import os
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson

_options = ort.SessionOptions()
_options.intra_op_num_threads = _options.inter_op_num_threads = 1
_session = ort.InferenceSession(os.environ["BENCH_MODEL"], _options, providers=["CPUExecutionProvider"])
_NAMES = ("label", "probabilities")


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    tensor = orjson.loads(body)["inputs"][0]
    asked = {"X": np.array(tensor["data"], np.float32).reshape(tensor["shape"])}
    found = [np.asarray(values) for values in _session.run(_NAMES, asked)]
    outputs = [
        {"name": name, "datatype": kind, "shape": values.shape, "data": values.ravel().tolist()}
        for name, kind, values in zip(_NAMES, ("INT64", "FP32"), found, strict=True)
    ]
    answer = orjson.dumps({"model_name": "bare", "model_version": "1", "outputs": outputs})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
