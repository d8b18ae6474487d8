"""`status` asks each service now; what the launcher recorded is only the start."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy.embedded import __main__ as launcher
from deploy.embedded import show
from deploy.embedded.home import Home
from deploy.embedded.processes import born
from deploy.embedded.state import PartRecord, State


@contextmanager
def _service(code: int, body: bytes) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (200, b'{"status": "ready", "problems": []}', {}),
        (503, b'{"status": "not ready", "problems": ["no broker"]}', {"monitor": "no broker"}),
        (503, b"busy", {"monitor": "/readyz answers 503"}),
    ],
)
def test_a_service_is_asked_whether_it_is_ready_now(code: int, body: bytes, expected: dict[str, str]) -> None:
    with _service(code, body) as address:
        record = PartRecord(state="ready", pid=os.getpid(), born=born(os.getpid()) or 0, address=address)
        assert show.unready(State(port=0, phase="ready", parts={"monitor": record})) == expected


@pytest.mark.parametrize(("code", "expected"), [(200, 0), (503, 1)])
def test_status_fails_while_a_service_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, code: int, expected: int
) -> None:
    with _service(code, b'{"problems": ["no broker"]}') as address:
        record = PartRecord(state="ready", pid=os.getpid(), born=born(os.getpid()) or 0, address=address)
        state = State(port=1, phase="ready", parts={"monitor": record})
        monkeypatch.setattr(launcher, "read", lambda _: state)
        monkeypatch.setattr(launcher, "launcher_runs", lambda _: True)
        monkeypatch.setattr(launcher.preflight, "no_room", lambda _: "")
        assert launcher.status(Home(tmp_path, 1)) == expected
    assert ("monitor is not ready: no broker" in capsys.readouterr().out) == (code == 503)
