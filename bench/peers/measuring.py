"""The same model behind us, MLServer and BentoML, in interleaved rounds."""

import asyncio
import json
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from contracts import Format

from ..model import Model, bodies
from ..rest import ENDPOINT, load, metered, until_served
from ..stage import SERVER_CORE, Stage, pin
from .starting import bentoml, mlserver

FORMATS: tuple[Format, ...] = ("onnx", "sklearn")


def measure(
    stage: Stage, models: tuple[Model, Model], folder: Path, connections: tuple[int, ...], rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """The same models, ONNX and scikit-learn's own, behind us, MLServer and BentoML, in turns: rows by connections."""
    asked: dict[Format, list[bytes]] = {name: bodies(256, format=name) for name in FORMATS}
    onnx, sklearn = models
    body = asked["onnx"][0]
    (folder / "model.onnx").write_bytes(onnx.data)
    (folder / "model.skops").write_bytes(sklearn.data)
    with ExitStack() as up:
        ours = {name: _served(stage, f"{ENDPOINT}-{name}", model, body) for name, model in
                (("onnx", onnx), ("sklearn", sklearn))}  # fmt: skip
        sides = {
            "fairlead onnx": (ours["onnx"], stage.token),
            "mlserver onnx": (up.enter_context(mlserver(folder, body, folder / "model.onnx", sklearn=False)), "none"),
            "bentoml onnx": (up.enter_context(bentoml(folder, body, folder / "model.onnx")), "none"),
            "fairlead sklearn": (ours["sklearn"], stage.token),
            "mlserver sklearn": (
                up.enter_context(mlserver(folder, body, folder / "model.skops", sklearn=True)),
                "none",
            ),
        }
        return [_compared(sides, asked, folder, count, rounds, seconds) for count in connections]


def _served(stage: Stage, endpoint: str, model: Model, body: bytes) -> tuple[str, psutil.Process]:
    asyncio.run(stage.serve(endpoint, model))
    url = f"{stage.url}/v2/models/{endpoint}/infer"
    until_served(url, stage.token, body)
    worker = stage.child("services.scorer.worker")
    pin(worker.pid, SERVER_CORE)
    return url, worker


def _compared(
    sides: dict[str, tuple[tuple[str, psutil.Process], str]], asked: dict[Format, list[bytes]], folder: Path,
    count: int, rounds: int, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, ((url, process), token) in sides.items():
            said = asked["sklearn" if name.endswith("sklearn") else "onnx"]
            said = _both(said) if name == "mlserver sklearn" else said
            with metered(process, runs[name]):
                runs[name].append(load(url, token, said, folder, count, seconds))
    middle = {name: {key: statistics.median(run[key] for run in own) for key in own[0]} for name, own in runs.items()}
    return {"connections": count, **middle}


def _both(asked: list[bytes]) -> list[bytes]:
    """The requests, for the decision and the probabilities: all others answer both unasked."""
    wanted = [{"name": "predict"}, {"name": "predict_proba"}]
    return [json.dumps(json.loads(body) | {"outputs": wanted}).encode() for body in asked]
