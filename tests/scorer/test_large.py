"""Large bodies: what takes long of them and can be done beside the event loop is."""

import gzip
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import REGISTRY

from services.scorer import asgi
from services.scorer.served import Ask
from services.scorer.wire import LARGE, Head

from .living import rows
from .test_beside import App, Story

BODY = orjson.dumps(rows(*np.random.default_rng(3).normal(size=(20_000, 3)).tolist()))


async def test_a_large_body_is_inflated_and_its_answer_deflated_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(tmp_path / "home")
    await story.serves()
    app = App(story)
    threads: list[int] = []

    def noting(work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*said: Any) -> Any:
            threads.append(threading.get_ident())
            return work(*said)

        return noted

    monkeypatch.setattr(asgi, "inflate", noting(asgi.inflate))
    monkeypatch.setattr(asgi, "deflate", noting(asgi.deflate))
    path, packed = "/v2/models/credit/infer", gzip.compress(BODY)
    assert len(packed) > LARGE
    headers = [(b"authorization", b"Bearer " + story.house.token().encode()), (b"accept-encoding", b"gzip")]
    assert isinstance(app.app.at_once(Head.read(path, headers), BODY), Ask), "its answer is large, too"
    headers.append((b"content-encoding", b"gzip"))
    assert app.app.at_once(Head.read(path, headers), packed) is None

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": packed, "more_body": False}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app.app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
    REGISTRY.unregister(app.app._counters)
    app.spool.close()
    assert sent[0]["status"] == 200
    assert len(orjson.loads(gzip.decompress(sent[1]["body"]))["outputs"][0]["data"]) == 20_000
    assert len(threads) == 2 and threading.get_ident() not in threads
