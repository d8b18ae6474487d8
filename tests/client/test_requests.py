"""What each operation sends, and what it makes of the answer."""

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from fairlead import (
    AsyncFairlead,
    Busy,
    Conflict,
    Failed,
    Fairlead,
    FairleadError,
    Forbidden,
    Invalid,
    NotFound,
    TimedOut,
    Unauthorized,
    Unreachable,
)

Answer = Callable[[httpx.Request], httpx.Response]


class Asked:
    """A platform's answers by path, and the requests that came."""

    def __init__(self, **answers: Any) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = {path.replace("__", "/"): answer for path, answer in answers.items()}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self._answers[request.url.path.removeprefix("/").replace("-", "_")]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)


def client(answer: Answer) -> Fairlead:
    return Fairlead("http://fairlead.test", "a-token", transport=httpx.MockTransport(answer))


BATCH = {"id": "b1", "endpoint": "credit", "state": "queued", "version": 3}
DEPLOYMENT = {"id": "d1", "endpoint": "credit", "state": "requested", "model": "credit", "version": 2}
METADATA = {"name": "credit", "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 2]}]}
SCORES = {
    "model_name": "credit",
    "model_version": "3",
    "parameters": {"inference_id": "i-1"},
    "outputs": [
        {"name": "label", "datatype": "INT64", "shape": [2], "data": [0, 1]},
        {"name": "odds", "datatype": "FP32", "shape": [2, 2], "data": [0.9, 0.1, 0.2, 0.8]},
    ],
}


def test_a_write_carries_the_token_and_a_key_that_makes_its_repeat_harmless() -> None:
    asked = Asked(v1__deployments=DEPLOYMENT)
    fl = client(asked)
    for _ in range(2):
        fl.deploy("credit", use_case="limits", model="credit", version=2, streaming=True)
    first, second = asked.requests
    assert first.headers["authorization"] == "Bearer a-token"
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
    assert orjson.loads(first.content) == {
        "endpoint": "credit", "use_case": "limits", "model": "credit", "version": 2, "strategy": "direct",
        "streaming": True,
    }  # fmt: skip


def test_what_stands_beside_a_champion_is_asked_for_weighed_promoted_and_taken_away() -> None:
    served = {"endpoint": "credit", "state": "serving", "model": "credit", "version": 1, "variants": [
        {"name": "champion", "role": "live", "model": "credit", "version": 1, "weight": 0.8},
        {"name": "canary", "role": "live", "model": "credit", "version": 2, "weight": 0.2},
    ]}  # fmt: skip
    moves = {f"v1__endpoints__credit__{move}": served for move in ("weight", "promote", "rollback")}
    asked = Asked(v1__deployments=DEPLOYMENT, **moves)
    fl = client(asked)
    fl.deploy("credit", use_case="limits", model="credit", version=2, strategy="canary", weight=0.1, variant="new")
    assert [v.weight for v in fl.weigh("credit", 0.2, variant="new").variants] == [0.8, 0.2]
    fl.promote("credit")
    fl.rollback("credit")
    fl.rollback("credit", variant="new")
    first, *others = [orjson.loads(request.content) for request in asked.requests]
    assert {"strategy": "canary", "weight": 0.1, "variant": "new"}.items() <= first.items()
    assert others == [{"weight": 0.2, "variant": "new"}, {}, {}, {"variant": "new"}]


class Losing:
    """A platform that does everything, and whose first answers are lost in different ways."""

    def __init__(self, *losses: httpx.Response | type[httpx.TransportError], answer: dict[str, Any]) -> None:
        self._losses, self._answer = list(losses), answer
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        if not self._losses:
            return httpx.Response(200, json=self._answer)
        loss = self._losses.pop(0)
        if isinstance(loss, httpx.Response):
            return loss
        raise loss("gone")


MADE = {"model": "credit", "version": 1, "digest": "sha256:0", "state": "registered"}


@pytest.mark.parametrize("loss", [httpx.ReadError, httpx.RemoteProtocolError, httpx.ReadTimeout, httpx.Response(502)])
def test_a_write_whose_answer_was_lost_is_sent_again_under_its_own_key(loss: Any, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"the model")
    for call, answer in (
        (lambda fl: fl.deploy("credit", use_case="limits", model="credit", version=2), DEPLOYMENT),
        (lambda fl: fl.register(tmp_path / "m.onnx"), MADE),
    ):
        losing = Losing(loss, answer=answer)
        call(client(losing))
        first, second = losing.requests
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
        assert len(first.content) == len(second.content), "a file is sent whole each time"


def test_who_is_told_that_an_answer_was_lost_knows_whether_it_may_have_been_done() -> None:
    for losses, maybe in (([httpx.ReadError] * 2, True), ([httpx.ConnectError], False), ([httpx.Response(503)], False)):
        losing = Losing(*losses, answer=DEPLOYMENT)
        with pytest.raises(Unreachable) as told:
            client(losing).rollback("credit")
        assert told.value.maybe_done == maybe
        assert len(losing.requests) == len(losses)


def test_an_alert_gets_an_owner_and_a_dispute_its_end() -> None:
    asked = Asked(v1__alerts__a__acknowledge={"state": "acknowledged"}, v1__alerts__a__close={"state": "resolved"})
    fl = client(asked)
    assert fl.acknowledge_alert("a")["state"] == "acknowledged"
    assert fl.close_alert("a", "rows compared")["state"] == "resolved"
    assert [orjson.loads(r.content) for r in asked.requests] == [{"comment": None}, {"reason": "rows compared"}]


def test_a_score_is_not_sent_again_for_it_would_be_a_second_decision() -> None:
    asked = Asked(v2__models__credit=METADATA, v2__models__credit__infer=httpx.Response(502))
    with pytest.raises(Unreachable):
        client(asked).score("credit", [[1, 2]])
    assert len(asked.requests) == 2


def test_a_deployment_of_what_was_registered_a_moment_ago_is_asked_for_again() -> None:
    early = httpx.Response(404, json={"detail": "there is no model credit version 2"})
    known = {"v1__models__credit__versions__2": {}, "v1__use_cases__limits": {}}
    asked = Asked(v1__deployments=[early, early, DEPLOYMENT], **known)
    assert client(asked).deploy("credit", use_case="limits", model="credit", version=2).id == "d1"
    assert len({r.headers["idempotency-key"] for r in asked.requests if r.method == "POST"}) == 1
    unknown = httpx.Response(404, json={"detail": "the catalog has no model credit version 2"})
    asked = Asked(v1__deployments=early, v1__models__credit__versions__2=unknown)
    with pytest.raises(NotFound, match="the catalog has no"):
        client(asked).deploy("credit", use_case="limits", model="credit", version=2)


def test_waiting_for_a_deployment_ends_when_it_serves() -> None:
    states = [DEPLOYMENT | {"state": state} for state in ("waiting", "rolling_out", "serving")]
    asked = Asked(v1__deployments=DEPLOYMENT, v1__deployments__d1=states)
    deployment = client(asked).deploy("credit", use_case="limits", model="credit", version=2, wait=5)
    assert deployment.state == "serving"
    assert len(asked.requests) == 4


def test_waiting_too_long_says_what_it_still_is() -> None:
    asked = Asked(v1__deployments__d1=DEPLOYMENT)
    with pytest.raises(TimedOut, match="still 'requested'"):
        client(asked).deployment("d1", wait=0.01)


async def test_the_asynchronous_client_has_the_same_operations() -> None:
    asked = Asked(v2__models__credit=METADATA, v2__models__credit__infer=SCORES)
    async with AsyncFairlead("http://fairlead.test", "a-token", transport=httpx.MockTransport(asked)) as fl:
        scores = await fl.score("credit", [[1, 2], [3, 4]])
    assert scores.predictions == [0, 1]


def test_a_score_answer_is_told_row_by_row_with_the_id_of_the_decision() -> None:
    asked = Asked(v2__models__credit=METADATA, v2__models__credit__infer=SCORES)
    scores = client(asked).score("credit", [[1, 2], [3, 4]], entity="customer-17", request_id="r-1")
    assert (scores.inference_id, scores.endpoint, scores.version) == ("i-1", "credit", 3)
    assert scores.outputs["odds"] == [[0.9, 0.1], [0.2, 0.8]]
    sent = orjson.loads(asked.requests[-1].content)
    assert sent["parameters"] == {"entity": "customer-17"}
    assert sent["id"] == "r-1"


def test_column_names_come_from_the_endpoint_or_else_from_the_catalog() -> None:
    schema = {"inputs": [], "outputs": [], "columns": [{"name": "age"}, {"name": "wage"}], "prediction": "label"}
    asked = Asked(
        v2__models__credit=METADATA,
        v2__models__credit__infer=SCORES,
        v1__endpoints__credit={"endpoint": "credit", "state": "serving", "model": "credit_risk", "version": 3},
        v1__models__credit_risk__versions__3={
            "model": "credit_risk", "version": 3, "digest": "sha256:0", "state": "registered", "model_schema": schema,
        },
    )  # fmt: skip
    fl = client(asked)
    fl.score("credit", [{"wage": 2, "age": 1}])
    assert orjson.loads(asked.requests[-1].content)["inputs"][0]["data"] == [1, 2]
    before = len(asked.requests)
    fl.score("credit", [{"wage": 2, "age": 1}])
    assert len(asked.requests) == before + 1, "the schema is asked once, not for every score"


def test_a_token_that_may_not_read_the_schema_is_told_what_to_do() -> None:
    refused = httpx.Response(403, json={"detail": "no"})
    asked = Asked(v2__models__credit=METADATA, v1__endpoints__credit=refused)
    with pytest.raises(Invalid, match="matrix's order"):
        client(asked).score("credit", [{"wage": 2, "age": 1}])


def test_a_folder_is_registered_as_a_zip_that_is_the_same_every_time(tmp_path: Path) -> None:
    (tmp_path / "fairlead.yaml").write_text("name: credit")
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    version = {"model": "credit", "version": 1, "digest": "sha256:0", "state": "registered"}
    asked = Asked(v1__models=version)
    for _ in range(2):
        client(asked).register(tmp_path, tags=["census"], unit="retail")
    first, second = (_parts(request) for request in asked.requests)
    assert first["package"] == second["package"]
    assert zipfile.ZipFile(BytesIO(first["package"])).namelist() == ["fairlead.yaml", "model.onnx"]
    assert (first["tags"], first["unit"]) == (b'["census"]', b"retail")


def _parts(request: httpx.Request) -> dict[str, bytes]:
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    parts: dict[str, bytes] = {}
    for part in request.content.split(b"--" + boundary)[1:-1]:
        head, _, body = part.strip(b"\r\n").partition(b"\r\n\r\n")
        parts[head.partition(b'name="')[2].partition(b'"')[0].decode()] = body
    return parts


def test_a_folder_without_a_manifest_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    asked = Asked()
    with pytest.raises(Invalid, match=r"fairlead\.yaml"):
        client(asked).register(tmp_path)
    assert asked.requests == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Forbidden), (404, NotFound), (409, Conflict), (422, Invalid), (413, Invalid),
     (429, Busy), (500, Failed), (503, Unreachable)],
)  # fmt: skip
def test_a_problem_becomes_the_exception_of_its_kind(status: int, kind: type[FairleadError]) -> None:
    problem = {"title": "t", "status": status, "detail": "must be positive", "field": "version"}
    asked = Asked(v1__models__credit=httpx.Response(status, json=problem, headers={"retry-after": "3"}))
    with pytest.raises(FairleadError) as refused:
        client(asked).show("credit")
    assert type(refused.value) is kind
    assert str(refused.value) == "version: must be positive"
    assert (refused.value.status, refused.value.field) == (status, "version")
    if isinstance(refused.value, Busy):
        assert refused.value.retry_after_s == 3


def test_the_scorers_own_error_shape_is_understood() -> None:
    asked = Asked(v2__models__credit=httpx.Response(404, json={"error": "there is no endpoint credit"}))
    with pytest.raises(NotFound, match="there is no endpoint credit"):
        client(asked).score("credit", [[1]])


def test_no_answer_at_all_says_where_it_looked() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unreachable, match=r"http://fairlead\.test.*make status"):
        client(away).status()


def test_outcomes_beyond_what_is_taken_at_once_are_sent_in_parts() -> None:
    asked = Asked(v1__outcomes={"accepted": 10_000, "new": 7})
    told = client(asked).outcomes({"inference_id": f"i-{n}", "label": 1} for n in range(20_001))
    assert [len(orjson.loads(request.content)["outcomes"]) for request in asked.requests] == [10_000, 10_000, 1]
    assert told == {"accepted": 30_000, "new": 21}


def test_retrainings_are_asked_for_by_endpoint() -> None:
    asked = Asked(v1__retrainings={"items": [], "next": None})
    client(asked).retrainings(endpoint="credit", limit=5)
    assert dict(asked.requests[0].url.params) == {"endpoint": "credit", "limit": "5"}


def test_what_waited_too_long_still_tells_how_far_it_came() -> None:
    with pytest.raises(TimedOut) as late:
        client(Asked(v1__deployments__d1=DEPLOYMENT)).deployment("d1", wait=0.01)
    assert late.value.so_far.id == "d1"


@pytest.mark.parametrize("value", [2**70, object(), "\ud800"])
def test_what_is_no_json_is_refused_before_it_is_sent(value: object) -> None:
    asked = Asked(v2__models__credit=METADATA)
    with pytest.raises(Invalid, match="JSON"):
        client(asked).score("credit", [[1, value]])


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), {}, [], {"inputs": 7}])
def test_something_else_at_the_address_is_told_apart_from_an_endpoint(answer: Any) -> None:
    with pytest.raises(Failed, match="does not speak the Open Inference Protocol"):
        client(
            Asked(v2__models__credit=httpx.Response(200, json=answer) if isinstance(answer, list) else answer)
        ).score("credit", [[1, 2]])


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_would_be_another_path_is_no_name(name: str) -> None:
    asked = Asked()
    with pytest.raises(Invalid, match="no name"):
        client(asked).show(name)
    assert asked.requests == []


def test_an_answer_that_cannot_be_decoded_says_where_it_came_from() -> None:
    broken = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"abc"))
    with pytest.raises(Unreachable, match=r"http://fairlead\.test"):
        client(Asked(v1__platform=broken)).status()


def test_an_address_that_sends_elsewhere_is_told() -> None:
    elsewhere = httpx.Response(302, headers={"location": "https://login.test/"})
    with pytest.raises(Failed, match=r"https://login\.test/"):
        client(Asked(v1__platform=elsewhere)).status()


def test_names_cannot_leave_their_place_in_the_path() -> None:
    sent: list[bytes] = []

    def note(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.raw_path)
        return httpx.Response(200, json={})

    client(note).show("../approvals?x=1")
    assert sent == [b"/v1/models/..%2Fapprovals%3Fx%3D1"]


def test_an_exported_ledger_comes_with_the_checkpoints_that_it_tells_of_and_no_later_ones() -> None:
    lines = [b'{"position": %d}\n' % position for position in (1, 2, 5)]
    files = [httpx.Response(200, content=b"".join(lines[:1])), httpx.Response(200, content=b"".join(lines) + b"{")]
    asked = Asked(v1__audit__checkpoints=files, v1__audit__export=httpx.Response(200, content=b"{}\n{}\n{}\n"))
    assert client(asked).export_audit() == (b"{}\n{}\n{}\n", b"".join(lines[:2]))


def test_batches_and_schedules_name_a_version_where_they_are_told_to(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    order: dict[str, Any] = {"id": "s1", "order": {}, "state": "active"}
    asked = Asked(v1__batches=BATCH, v1__batches__schedules=order)
    fl = client(asked)
    assert fl.batch("credit", tmp_path / "rows.csv", version=3).version == 3
    assert b'name="version"\r\n\r\n3\r\n' in asked.requests[-1].content
    fl.batch("credit", tmp_path / "rows.csv")
    assert b"version" not in asked.requests[-1].content
    for version in (3, None):
        fl.batch_from("credit", "incoming/rows.csv", version=version)
        assert orjson.loads(asked.requests[-1].content).get("version") == version
        fl.schedule("credit", arrives="incoming/new", version=version)
        assert orjson.loads(asked.requests[-1].content).get("version") == version
