"""Models that another server answers for, against a real server on loopback."""

import asyncio
import gzip
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from services.kit.connections import Connections, HttpsConnection
from services.kit.errors import Invalid, Unavailable, retry_after
from services.kit.models import Asked
from services.kit.models.external import External, ExternalModel, RemoteRefused, guard
from services.kit.models.wire import WireError
from services.kit.settings import Settings

from .servers import Server, server

ROWS = {"X": np.array([[1.0, 2.0], [3.0, np.nan]])}
INPUTS = [{"name": "X", "datatype": "FP64", "shape": [-1, 2]}]
NOW = [1000.0]
"""The circuit breaker's clock, which a test moves."""
OUTPUTS = [{"name": "label", "datatype": "INT64", "shape": [-1]}, {"name": "score", "datatype": "FP64", "shape": [-1]}]
ASKED = Asked(columns=["age", "debt"], inputs=INPUTS, outputs=OUTPUTS)


@pytest.fixture
async def remote() -> AsyncGenerator[Server]:
    async with server() as running:
        yield running


def opened(remote: Server, home: Path, asked: Asked = ASKED, unit: str = "retail", **said: Any) -> ExternalModel:
    """A model that the remote answers for, over a connection that is approved for retail."""
    entry = {"name": "ratings", "kind": "https", "url": f"{remote.url}/base", "units": ["retail"],
             "headers": {"Authorization": "Bearer secret"}}  # fmt: skip
    (home / "connections.yaml").write_text(yaml.safe_dump({"connections": [entry]}))
    right: dict[str, Any] = {"connection": "ratings", "path": "/score", "protocol": "v2"}
    return ExternalModel(External(**right | said), asked, Connections.of(Settings(home=home)), unit, lambda: NOW[0])


def v2(label: list[Any], score: list[Any]) -> Response:
    rows = len(label)
    return JSONResponse({"model_name": "x", "outputs": [
        {"name": "score", "datatype": "FP64", "shape": [rows], "data": score},
        {"name": "label", "datatype": "INT64", "shape": [rows], "data": label},
    ]})  # fmt: skip


async def test_a_v2_server_is_asked_with_the_connection_s_headers_below_its_url(remote: Server, tmp_path: Path) -> None:
    remote.answer = lambda _: v2([1, 0], [0.9, None])
    asked = opened(remote, tmp_path)
    said = await asked.predict(ROWS)
    assert said["label"].tolist() == [1, 0]
    np.testing.assert_array_equal(said["score"], [0.9, np.nan])
    assert remote.paths == ["/base/score"]
    assert remote.headers[0]["authorization"] == "Bearer secret"
    assert remote.asked[0]["inputs"] == [
        {"name": "X", "shape": [2, 2], "datatype": "FP64", "data": [1.0, 2.0, 3.0, None]}
    ]  # fmt: skip
    await asked.close()


async def test_an_mlflow_server_gets_columns_and_answers_in_each_of_its_ways(remote: Server, tmp_path: Path) -> None:
    asked = opened(remote, tmp_path, protocol="mlflow")
    for predictions in (
        [{"label": 1, "score": 0.9}, {"label": 0, "score": 0.2}],
        {"label": [1, 0], "score": [0.9, 0.2]},
    ):
        remote.answer = lambda _, made=predictions: JSONResponse({"predictions": made})
        said = await asked.predict(ROWS)
        assert (said["label"].tolist(), said["score"].tolist()) == ([1, 0], [0.9, 0.2])
    assert remote.asked[0] == {"dataframe_split": {"columns": ["age", "debt"], "data": [[1.0, 2.0], [3.0, None]]}}
    alone = opened(remote, tmp_path, Asked(inputs=INPUTS, outputs=OUTPUTS[:1]), protocol="mlflow")
    remote.answer = lambda _: JSONResponse({"predictions": [1, 0]})
    assert (await alone.predict(ROWS))["label"].tolist() == [1, 0]
    assert remote.asked[-1] == {"inputs": {"X": [[1.0, 2.0], [3.0, None]]}}
    await asked.close()
    await alone.close()


async def test_calls_at_a_change_of_the_connection_leave_no_client_open(
    remote: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[httpx.AsyncClient] = []
    make = HttpsConnection.client

    def noted(connection: HttpsConnection) -> httpx.AsyncClient:
        made.append(make(connection))
        return made[-1]

    monkeypatch.setattr(HttpsConnection, "client", noted)
    remote.answer = lambda _: v2([1, 0], [0.9, 0.1])
    asked = opened(remote, tmp_path)
    await asked.predict(ROWS)
    file = tmp_path / "connections.yaml"
    file.write_text(file.read_text() + "# changed\n")
    await asyncio.gather(*(asked.predict(ROWS) for _ in range(4)))
    await asked.close()
    assert len(made) == 2
    assert all(client.is_closed for client in made)


async def test_a_template_is_filled_and_answers_are_found_by_pointer(remote: Server, tmp_path: Path) -> None:
    asked = opened(
        remote, tmp_path, protocol="template",
        body={"applicants": "{{rows}}", "m": ["{{ matrix }}"], "x": "{{X}}", "version": 3, "note": "{{rows}} as text?"},
        answers={"label": "/results/*/decision", "score": "/all~1scores"},
    )  # fmt: skip
    remote.answer = lambda _: JSONResponse(
        {"results": [{"decision": 1}, {"decision": 0}], "all/scores": [0.9, 0.2]}
    )  # fmt: skip
    said = await asked.predict(ROWS)
    assert (said["label"].tolist(), said["score"].tolist()) == ([1, 0], [0.9, 0.2])
    matrix = [[1.0, 2.0], [3.0, None]]
    assert remote.asked == [{
        "applicants": [{"age": 1.0, "debt": 2.0}, {"age": 3.0, "debt": None}], "m": [matrix], "x": matrix, "version": 3,
        "note": "{{rows}} as text?",
    }]  # fmt: skip
    remote.answer = lambda _: JSONResponse({"results": [{"decision": 1}, {}], "all/scores": [0.9, 0.2]})
    with pytest.raises(WireError, match=r"nothing at /results/\*/decision"):
        await asked.predict(ROWS)
    await asked.close()


async def test_a_template_without_columns_has_rows_by_tensor(remote: Server, tmp_path: Path) -> None:
    inputs = [{"name": "name", "datatype": "BYTES", "shape": [-1]}, {"name": "v", "datatype": "FP32", "shape": [-1, 2]}]
    asked = opened(
        remote, tmp_path, Asked(inputs=inputs, outputs=OUTPUTS[:1]), protocol="template", body={"rows": "{{rows}}"},
        answers={"label": ""},
    )  # fmt: skip
    remote.answer = lambda _: JSONResponse([7])
    said = await asked.predict({"name": np.array(["ä".encode()], object), "v": np.array([[1, 2]], np.float32)})
    assert said["label"].tolist() == [7]
    assert remote.asked == [{"rows": [{"name": "ä", "v": [1.0, 2.0]}]}]
    await asked.close()


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_the_server_says_of_an_input_concerns_the_input(status: int, remote: Server, tmp_path: Path) -> None:
    asked = opened(remote, tmp_path)
    remote.answer = lambda _: JSONResponse({"error": "age must be positive"}, status)
    for _ in range(10):
        with pytest.raises(RemoteRefused, match="age must be positive"):
            await asked.predict(ROWS)
    assert not asked.down, "a server that answers is not away"
    assert len(remote.asked) == 10, "what is refused is not repeated"
    await asked.close()


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_server_that_does_not_let_us_in_is_away_and_not_asked_twice(
    status: int, remote: Server, tmp_path: Path
) -> None:
    asked = opened(remote, tmp_path)
    remote.answer = lambda _: Response("who are you?", status)
    with pytest.raises(Unavailable, match=f"connection ratings: it answers with status {status}") as told:
        await asked.predict(ROWS)
    assert "secret" not in str(told.value)
    assert len(remote.asked) == 1
    await asked.close()


async def test_a_redirect_is_not_followed(remote: Server, tmp_path: Path) -> None:
    asked = opened(remote, tmp_path)
    remote.answer = lambda _: RedirectResponse(f"{remote.url}/elsewhere")
    with pytest.raises(Unavailable, match="status 307"):
        await asked.predict(ROWS)
    assert remote.paths == ["/base/score"]
    await asked.close()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_passing_failure_is_repeated_once(status: int, remote: Server, tmp_path: Path) -> None:
    asked = opened(remote, tmp_path)
    remote.answer = lambda _: Response("", status) if len(remote.asked) == 1 else v2([1, 0], [0.9, 0.2])
    assert (await asked.predict(ROWS))["label"].tolist() == [1, 0]
    assert len(remote.asked) == 2
    await asked.close()


async def test_repetitions_end_with_their_budget_and_the_circuit_opens_and_closes(
    remote: Server, tmp_path: Path
) -> None:
    asked = opened(remote, tmp_path)
    remote.answer = lambda _: Response("", 503)
    for _ in range(5):
        with pytest.raises(Unavailable, match="status 503"):
            await asked.predict(ROWS)
    assert len(remote.asked) == 5 + 3, "two to begin with, and a fifth of five"
    with pytest.raises(
        Unavailable, match=r"it failed too often \(it answers with status 503\); it is asked again in 5 s"
    ) as refused:
        await asked.predict(ROWS)
    assert retry_after(refused.value) == 5
    NOW[0] += 1.5
    with pytest.raises(Unavailable, match="asked again in 4 s") as refused:
        await asked.predict(ROWS)
    assert retry_after(refused.value) == 4, "whoever comes then is let through"
    assert len(remote.asked) == 8, "an open circuit asks nothing"
    assert asked.down and asked.away
    remote.answer = lambda _: v2([1, 0], [0.9, 0.2])
    NOW[0] += guard.FIRST_PAUSE_S
    assert asked.down and not asked.away, "the next call is let through"
    assert (await asked.predict(ROWS))["label"].tolist() == [1, 0]
    assert not asked.down and not asked.away
    await asked.close()


async def test_a_server_that_is_silent_is_given_up_in_time(remote: Server, tmp_path: Path) -> None:
    async def silent() -> Response:
        await asyncio.sleep(30)
        return Response()

    asked = opened(remote, tmp_path, timeout_s=0.3)
    remote.answer = lambda _: silent()
    with pytest.raises(Unavailable, match=r"no answer within 0\.3 s"):
        await asked.predict(ROWS)
    await asked.close()


async def test_a_server_that_is_not_there_is_away(tmp_path: Path) -> None:
    asked = opened(Server("http://127.0.0.1:9"), tmp_path)
    with pytest.raises(Unavailable, match=r"it cannot be reached \(ConnectError\)"):
        await asked.predict(ROWS)
    await asked.close()


WRONG = {
    "not JSON": (lambda: Response("<html>"), "no JSON"),
    "other rows": (lambda: v2([1], [0.9]), r"shape \[1\] for 2 rows"),
    "another type": (lambda: v2([1.5, 0], [0.9, 1]), "label holds values that are no INT64"),
    "no output": (lambda: JSONResponse({"outputs": []}), "no output label"),
    "a bomb": (lambda: Response(gzip.compress(b"0" * 10_000_000), headers={"content-encoding": "gzip"}), "compressed"),
    "endless": (lambda: StreamingResponse(b"0" * (1 << 20) for _ in range(10_000)), "is larger than"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
async def test_an_answer_that_does_not_fit_is_not_believed(what: str, remote: Server, tmp_path: Path) -> None:
    made, reason = WRONG[what]
    asked = opened(remote, tmp_path)
    remote.answer = lambda _: made()
    with pytest.raises(WireError, match=reason):
        await asked.predict(ROWS)
    assert not asked.down
    await asked.close()


async def test_a_connection_that_is_not_approved_is_not_called(remote: Server, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no server ratings is approved for unit risk"):
        await opened(remote, tmp_path, unit="risk").start()
    asked = opened(remote, tmp_path)
    await asked.start()
    (tmp_path / "connections.yaml").unlink()
    with pytest.raises(Invalid, match="no server ratings is approved"):
        await asked.predict(ROWS)
    assert remote.asked == []


async def test_a_caller_who_goes_away_is_no_failure(remote: Server, tmp_path: Path) -> None:
    async def slow() -> Response:
        await asyncio.sleep(0.2)
        return v2([1, 0], [0.9, 0.2])

    asked = opened(remote, tmp_path)
    remote.answer = lambda _: slow()
    for _ in range(6):
        gone = asyncio.create_task(asked.predict(ROWS))
        while len(remote.asked) == 0:
            await asyncio.sleep(0.01)
        remote.asked.clear()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    assert (await asked.predict(ROWS))["label"].tolist() == [1, 0]
    await asked.close()
