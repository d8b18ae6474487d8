"""Run by a Python that has tritonclient[grpc] alone: asks an endpoint as Triton's users do, prints what it heard."""

import json
import sys

import numpy as np
import tritonclient.grpc as triton  # pyright: ignore[reportMissingImports]

address, token = sys.argv[1:]
with triton.InferenceServerClient(address) as client:
    headers = {"authorization": f"Bearer {token}"}
    matrix = np.array([[1, 1, 1], [-1, -1, -1]], np.float32)
    given = triton.InferInput("X", [2, 3], "FP32")
    given.set_data_from_numpy(matrix)
    wanted = [triton.InferRequestedOutput("label"), triton.InferRequestedOutput("probabilities")]
    answer = client.infer("credit", [given], request_id="mine", outputs=wanted, headers=headers)
    text = triton.InferInput("x", [2, 1], "BYTES")
    text.set_data_from_numpy(np.array([["grün"], ["b"]], object))
    echoed = client.infer("echo", [text], headers=headers).as_numpy("y")
    columns = [triton.InferInput(name, [2], "FP32") for name in ("debt", "age", "income")]
    for column in columns:
        column.set_data_from_numpy(matrix[:, 0])
    by_name = client.infer("credit", columns, headers=headers).as_numpy("label").tolist()
    metadata = client.get_model_metadata("credit", headers=headers, as_json=True)
    try:
        client.infer("nowhere", [given], headers=headers)
        unknown = ""
    except triton.InferenceServerException as error:
        unknown = f"{error.status()} {error.message()}"
    print(json.dumps({
        "live": client.is_server_live(headers=headers), "ready": client.is_model_ready("credit", headers=headers),
        "labels": answer.as_numpy("label").tolist(), "shape": list(answer.as_numpy("probabilities").shape),
        "id": answer.get_response().id, "version": answer.get_response().model_version,
        "inference_id": answer.get_response().parameters["inference_id"].string_param,
        "echoed": [each.decode() for each in echoed.ravel()], "inputs": metadata["inputs"],
        "by_name": by_name, "unknown": unknown,
    }))  # fmt: skip
