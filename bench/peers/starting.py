"""Peers started on libraries that are installed for the occasion, each on the server's core."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from services.kit.environments import Environments, lock

from ..stage import SERVER_CORE, pin

_HERE = Path(__file__).parent
_MLSERVER = [
    "mlserver==1.7.1",
    "mlserver-sklearn==1.7.1",
    "scikit-learn==1.9.1",
    "skops==0.16.0",
    "onnxruntime==1.32.0",
]
_BENTO = ["bentoml==1.4.40", "onnxruntime==1.32.0", "numpy"]
_JOBLIB = """
import sys, joblib, skops.io
joblib.dump(skops.io.load(sys.argv[1], trusted=skops.io.get_untrusted_types(file=sys.argv[1])), sys.argv[2])
"""
_START_S = 120.0
Served = tuple[str, psutil.Process]
"""Where one asks for an inference, and the process that answers."""


@contextmanager
def mlserver(folder: Path, body: bytes, model: Path, *, sklearn: bool) -> Generator[Served]:
    """In one process, which is its fastest way: worker processes of its own cost it half."""
    packages, at = installed(folder, _MLSERVER), folder / f"mlserver-{model.suffix[1:]}"
    at.mkdir(exist_ok=True)
    told = {"name": "bench", "implementation": "mlserver_onnx.Onnx"}
    if sklearn:
        _run(packages, ["-c", _JOBLIB, str(model), str(at / "model.joblib")], at)
        told = {"name": "bench", "implementation": "mlserver_sklearn.SKLearnModel",
                "parameters": {"uri": "./model.joblib"}}  # fmt: skip
    else:
        shutil.copy(_HERE / "mlserver_onnx.py", at)
    (at / "model-settings.json").write_text(json.dumps(told))
    port, *others = _ports(3)
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": others[0], "metrics_port": others[1],
                "parallel_workers": 0, "debug": False}  # fmt: skip
    (at / "settings.json").write_text(json.dumps(settings))
    command = ["-c", "from mlserver.cli import main; main()", "start", str(at)]
    with _serving(packages, command, at, model, f"http://127.0.0.1:{port}/v2/models/bench/infer", body) as served:
        yield served


@contextmanager
def bentoml(folder: Path, body: bytes, model: Path) -> Generator[Served]:
    """One worker."""
    packages, at = installed(folder, _BENTO), folder / "bentoml"
    at.mkdir(exist_ok=True)
    shutil.copy(_HERE / "bento.py", at / "service.py")
    (port,) = _ports(1)
    command = ["-c", "from bentoml_cli.cli import cli; cli()", "serve", "service:Bench", "--port", str(port)]
    with _serving(packages, command, at, model, f"http://127.0.0.1:{port}/infer", body) as served:
        yield served


def installed(folder: Path, wanted: list[str]) -> Path:
    """Where these libraries are, with all that they need."""

    async def build() -> Path:
        environments = Environments(
            folder / "environments", most_bytes=4 * 1024**3, most_bytes_all=4 * 1024**3, timeout_s=600
        )
        return await environments.built(await lock(wanted, timeout_s=120))

    return asyncio.run(build())


def environment(packages: Path, at: Path, model: Path | None) -> dict[str, str]:
    """What a process is told that shall import them alone."""
    own = {"PYTHONPATH": f"{packages}{os.pathsep}{at}", "HOME": str(at), "BENTOML_DO_NOT_TRACK": "true"}
    return {**os.environ, **own, **({"BENCH_MODEL": str(model)} if model else {})}


def _run(packages: Path, arguments: list[str], at: Path) -> None:
    subprocess.run([sys.executable, "-S", *arguments], env=environment(packages, at, None), check=True, timeout=120)


@contextmanager
def _serving(
    packages: Path, arguments: list[str], at: Path, model: Path, url: str, body: bytes
) -> Generator[Served]:  # fmt: skip
    with (at / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-S", *arguments], env=environment(packages, at, model), cwd=at, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        _until_served(process, url, body, at / "log")
        pin(process.pid, SERVER_CORE)
        yield url, psutil.Process(process.pid)
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for each in family:
            each.terminate()
        psutil.wait_procs(family, 10)


def _until_served(process: "subprocess.Popen[bytes]", url: str, body: bytes, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx.post(url, content=body, headers={"Content-Type": "application/json"}, timeout=5)
            if answer.status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{url} does not answer: {log.read_text()[-2000:]}")


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found
