"""A cold model's first answer, beside the time that its libraries alone take to open it."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from .model import Model, bodies
from .rest import until_served
from .stage import Stage

BUDGET_MB = 1
"""Less than one of the sandboxes takes: whoever is asked sends the other one away."""
_LOADS = "fairlead_scorer_model_loads_total", "worker-0"
_OPENING = {
    "onnx": """
import json, sys, time
import onnxruntime
began = time.perf_counter()
onnxruntime.InferenceSession(sys.argv[1])
print(json.dumps(time.perf_counter() - began))
""",
    # A sandboxed model's load is a process of its own, and the import of what it is made of.
    "sklearn": """
import json, skops.io, sys
skops.io.load(sys.argv[1], trusted=skops.io.get_untrusted_types(file=sys.argv[1]))
""",
}


def measure(stage: Stage, models: tuple[Model, Model], folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of each format, medians of rounds in turns: the first answer of a cold model, its own load time, the
    difference, and an answer of the same model when it is warm."""
    asked = bodies(1)[0]
    runs: dict[str, list[dict[str, float]]] = {}
    for model in models:
        (folder / f"cold.{model.format}").write_bytes(model.data)
        asyncio.run(stage.serve(_endpoint(model), model))
        until_served(_url(stage, model), stage.token, asked)
        runs[model.format] = []
    with httpx.Client(headers={"Authorization": f"Bearer {stage.token}"}, timeout=60) as client:
        for _ in range(rounds):
            for model in models:
                runs[model.format].append(_round(client, stage, model, folder, asked))
    middle = {
        name: {key: statistics.median(run[key] for run in own) for key in own[0]} for name, own in runs.items()
    }  # fmt: skip
    return [
        {"format": name, "rounds": rounds, "worst_beyond_ms": max(run["beyond_ms"] for run in runs[name]), **line}
        for name, line in middle.items()
    ]


def _round(client: httpx.Client, stage: Stage, model: Model, folder: Path, asked: bytes) -> dict[str, float]:
    loads, url = stage.metric(*_LOADS), _url(stage, model)
    first = _ask(client, url, asked)
    if stage.metric(*_LOADS) != loads + 1:
        raise SystemExit(f"{model.format}: the model was not cold, or not alone: this run measures nothing")
    warm = statistics.median(_ask(client, url, asked) for _ in range(20))
    own = _own(model, folder)
    return {"first_ms": first, "load_ms": own, "beyond_ms": first - own, "warm_ms": warm}


def _ask(client: httpx.Client, url: str, body: bytes) -> float:
    began = time.perf_counter()
    answer = client.post(url, content=body)
    took = (time.perf_counter() - began) * 1000
    if answer.status_code != 200:
        raise SystemExit(f"{url} answers {answer.status_code}: {answer.text[:300]}")
    return took


def _own(model: Model, folder: Path) -> float:
    """In a process that does nothing else; of ONNX Runtime, which a worker has loaded, without its import."""
    began = time.perf_counter()
    command = [sys.executable, "-c", _OPENING[model.format], str(folder / f"cold.{model.format}")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return (json.loads(done.stdout) if done.stdout else time.perf_counter() - began) * 1000


def _endpoint(model: Model) -> str:
    return f"bench-cold-{model.format}"


def _url(stage: Stage, model: Model) -> str:
    return f"{stage.url}/v2/models/{_endpoint(model)}/infer"
