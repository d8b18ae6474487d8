"""A real worker process over a real socket, without Kafka: desired states are written as the agent would."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx
import orjson

from contracts import DeploymentChanged
from services.scorer.files import write_atomically
from services.scorer.spool import SegmentReader, segments

from .making import House

HERE = Path(__file__).resolve().parents[2]


class Worker:
    """Slot 0 of a host."""

    def __init__(self, house: House, **environment: str) -> None:
        self.house = house
        self._environment = environment
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.listening.set_inheritable(True)
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self.stop()
        self.listening.close()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self) -> None:
        fd = self.listening.fileno()
        environment = os.environ | {
            "FAIRLEAD_HOME": str(self.house.home), "FAIRLEAD_SLOT": "0", "FAIRLEAD_LISTEN_FD": str(fd),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.scorer.worker"], pass_fds=(fd,), cwd=HERE,
            env=environment | self._environment,
        )  # fmt: skip
        self.wait(lambda: self.get("/livez").status_code == 200)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(15)

    def deploy(self, *changes: DeploymentChanged) -> None:
        """Say what shall be served, and wait until it is."""
        for change in changes:
            self._wanted[change.endpoint] = orjson.loads(change.to_json())
        state = {"caught_up": True, "endpoints": self._wanted, "floors": {}}
        write_atomically(self.house.settings.desired_path, orjson.dumps(state))
        wanted = {change.endpoint: change.revision for change in changes}
        self.wait(lambda: {n: s["revision"] for n, s in self.loaded().items() if n in wanted} == wanted)

    def loaded(self) -> dict[str, Any]:
        path = self.house.settings.run_folder / "loaded" / "worker-0.json"
        return orjson.loads(path.read_bytes())["endpoints"] if path.exists() else {}

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        return httpx.get(self.url + path, headers=bearer(token))

    def post(self, path: str, body: Any, token: str | None = None, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return httpx.post(self.url + path, content=content, headers=bearer(token) | headers)

    def infer(self, endpoint: str, body: Any, token: str, **headers: str) -> httpx.Response:
        return self.post(f"/v2/models/{endpoint}/infer", body, token, **headers)

    def wait(self, check: Any, within: float = 20.0) -> None:
        ends = time.monotonic() + within
        while True:
            try:
                if check():
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < ends, "it did not happen in time"
            time.sleep(0.03)

    def spooled(self) -> list[tuple[int, bytes]]:
        """Numbers and payloads of every whole record in the slot's spool."""
        found: list[tuple[int, bytes]] = []
        for path in segments(self.house.settings.spool_folder / "0"):
            with SegmentReader(path) as reader:
                while (parsed := reader.read()).consumed:
                    found += [(entry.seq, entry.payload) for entry in parsed.entries]
        return found


def bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def rows(*values: list[float], **more: Any) -> dict[str, Any]:
    """A V2 request for the classifier."""
    flat = [number for row in values for number in row]
    return {"inputs": [{"name": "X", "shape": [len(values), 3], "datatype": "FP32", "data": flat}], **more}


def request(token: str, body: bytes, path: str = "credit", **headers: str) -> bytes:
    """A whole request as bytes."""
    said = {"Host": "x", "Authorization": f"Bearer {token}", "Content-Length": str(len(body))} | headers
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in said.items())
    return f"POST /v2/models/{path}/infer HTTP/1.1\r\n{lines}\r\n".encode() + body
