"""The command line: exit codes that scripts can trust, tables for people, JSON for programs."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner, Result

from fairlead.cli import app

GATE = {"name": "scan", "passed": True, "rule": "true", "facts": {}}
APPROVAL = {
    "id": "a-1", "state": "pending", "endpoint": "credit", "model": "credit", "version": 2, "use_case": "limits",
    "requested_by": "engineer", "gates": [GATE, GATE | {"name": "bias", "passed": False}],
}  # fmt: skip
DEPLOYMENT = {"id": "d-1", "endpoint": "credit", "state": "rejected", "model": "credit", "version": 2, "reason": "no"}
TOPIC = {
    "topic": "inference.logged", "records": 12_345, "rate": 2.5, "bytes": 2048, "partitions": 4, "dead_letters": 1,
    "groups": [{"group": "monitor", "lag": 7}],
}  # fmt: skip
SERVICE = {"service": "scorer", "url": "http://127.0.0.1:1", "ready": False, "problems": {"bus": "Kafka is away"}}
ANSWERS: dict[str, Any] = {
    "/v1/models": {"items": [], "next": None},
    "/v1/approvals": {"items": [APPROVAL], "next": None},
    "/v1/deployments": DEPLOYMENT,
    "/v1/topics": {"items": [TOPIC, TOPIC | {"topic": "dlq.inference.logged"}]},
    "/v1/platform": {"ready": False, "services": [SERVICE]},
    "/v1/dead-letters/replay": {"topic": "dlq.x", "replayed": 2},
}


async def answer(request: Request) -> Response:
    if request.headers.get("authorization") != "Bearer a-token":
        return JSONResponse({"detail": "the token is not valid"}, 401)
    if request.url.path.endswith("/decision"):
        return JSONResponse({"detail": "engineer asked for this and cannot grant it"}, 403)
    if request.url.path == "/v1/endpoints/away/rollback":
        return JSONResponse({"detail": "the deployer is away"}, 503)
    return JSONResponse(ANSWERS[request.url.path])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    methods = ["GET", "POST"]
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=[Route("/{rest:path}", answer, methods=methods)]), port=0, log_config=None)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def run(url: str, *arguments: str, token: str = "a-token") -> Result:
    environment = {"FAIRLEAD_URL": url, "FAIRLEAD_TOKEN": token, "FAIRLEAD_HOME": "/nonexistent"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def test_a_list_is_a_table_for_people_and_json_for_programs(url: str) -> None:
    table = run(url, "approvals")
    assert table.exit_code == 0
    assert "1/2 passed; failed: bias" in table.stdout
    assert json.loads(run(url, "approvals", "--json").stdout)["items"][0]["id"] == "a-1"


def test_topics_show_lag_and_size_and_keep_dead_letters_in_their_column(url: str) -> None:
    shown = run(url, "topics").stdout
    assert "12,345" in shown
    assert "2.0 KiB" in shown
    assert "dlq." not in shown


def test_an_empty_list_says_what_to_do(url: str) -> None:
    assert "fairlead register" in run(url, "models").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["approve", "a-1", "--reason", "mine"], 1, "cannot grant it"),
        (["approve", "a-1"], 2, "--reason"),
        (["nonsense"], 2, "nonsense"),
        (["dlq", "replay", "dlq.x", "--at", "one"], 2, "partition:offset"),
        (["register", "/nonexistent.onnx"], 2, "nonexistent"),
        (["register", __file__, "--field", "label"], 2, "name=value"),
        (["score", "credit", "{"], 1, "not JSON"),
        (["score", "credit", "/nonexistent.json"], 1, "cannot read"),
        (["rollback", "away"], 3, "deployer is away"),
        (["status"], 1, ""),
        (["deploy", "credit", "-u", "limits", "-m", "credit", "-v", "2"], 1, ""),
    ],
)
def test_exit_codes_tell_refused_from_wrong_use_from_away(
    url: str, arguments: list[str], code: int, sentence: str
) -> None:
    done = run(url, *arguments)
    assert done.exit_code == code, done.output
    assert sentence in done.output.replace("\n", " ")


def test_a_platform_that_does_not_answer_is_exit_code_3() -> None:
    done = run("http://127.0.0.1:9", "models")
    assert done.exit_code == 3
    assert "http://127.0.0.1:9" in done.stderr


def test_a_bad_token_is_refused(url: str) -> None:
    assert run(url, "models", token="wrong").exit_code == 1


def test_status_says_why_a_service_is_not_ready(url: str) -> None:
    assert "Kafka is away" in run(url, "status").stdout


def test_a_replay_tells_how_many(url: str) -> None:
    assert "Replayed 2" in run(url, "dlq", "replay", "dlq.x", "--at", "0:7").stdout


def test_an_altered_ledger_fails_the_offline_verification(tmp_path: Path, url: str) -> None:
    (tmp_path / "keys").mkdir()
    record = {"position": 1, "hash": "sha256:" + "0" * 64, "record": json.dumps({"service": "catalog", "number": 1})}
    (tmp_path / "records.jsonl").write_text(json.dumps(record) + "\n")
    (tmp_path / "checkpoints.jsonl").write_text("")
    files = ["--records", str(tmp_path / "records.jsonl"), "--checkpoints", str(tmp_path / "checkpoints.jsonl")]
    done = run(url, "audit", "verify", *files, "--keys", str(tmp_path / "keys"))
    assert done.exit_code == 1
    assert "from record 1" in done.stdout
    assert run(url, "audit", "verify", "--records", files[1], "--keys", str(tmp_path / "keys")).exit_code == 2
