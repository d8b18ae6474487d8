"""What requests set of a model: MLflow's params, from its own client to the model and into the log."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from contracts import ModelSchema, ParamSpec
from services.catalog.settings import CatalogSettings
from services.kit.environments import Environments
from services.kit.errors import Refusal
from services.kit.ids import now
from services.scorer import mlflow
from services.scorer.lane import Lane
from services.scorer.line import Asked
from services.scorer.logrecord import LogRecord, Origin
from services.scorer.metering import Account
from services.scorer.runtimes import Arrays
from services.scorer.served import Served
from services.scorer.streams.items import Item
from services.scorer.streams.records import BatchRecords
from services.scorer.streams.scoring import Scoring
from services.scorer.streams.wire import Envelope
from services.scorer.tokenise import Tokeniser
from services.scorer.v2 import BadInput, Codec
from tests import code_models
from tests.scorer_streams.test_counting import Record

from .living import Worker
from .making import NUMBERS, House
from .test_code_models import registered, serve
from .test_lane import LIMITS, Elsewhere, one, under_way

SPECS = (
    ParamSpec(name="share", type="double", default=0.5),
    ParamSpec(name="most", type="integer", default=10),
    ParamSpec(name="names", type="string", default=["a"], shape=(-1,)),
    ParamSpec(name="deep", type="boolean", default=False),
    ParamSpec(name="since", type="datetime", default="2026-01-01T00:00:00"),
    ParamSpec(name="more", type="object", default={}),
)
SET = NUMBERS.model_copy(update={"params": SPECS})


def codec(schema: ModelSchema) -> Codec:
    return Codec(schema, "credit", "1", "champion", Tokeniser(b"k" * 32).token)


def v2(parameters: dict[str, Any], schema: ModelSchema = SET) -> Any:
    tensor = {"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    return codec(schema).decode(orjson.dumps({"inputs": [tensor], "parameters": parameters}))


def invoked(params: Any, schema: ModelSchema = SET) -> Any:
    body = orjson.dumps({"inputs": [[1, 2, 3]], "params": params})
    return mlflow.decode(body, "mlflow", codec(schema), schema)


FITTING: dict[str, Any] = {
    "deep": True, "more": {"a": [1]}, "most": -(2**31), "names": ["x", None], "share": 1, "since": "2026-11-28",
}  # fmt: skip


@pytest.mark.parametrize("way", [v2, invoked])
def test_what_fits_reaches_the_model_as_it_was_said(way: Any) -> None:
    assert orjson.loads(way(FITTING).params) == FITTING
    assert way({}).params == b"", "then MLflow takes its defaults"


@pytest.mark.parametrize("way", [v2, invoked])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"shar": 1}, "param 'shar' is not one of this model: it takes share, most, names, deep, since, more"),
        ({"share": "1"}, "param 'share' is not a number"),
        ({"share": True}, "param 'share' is not a number"),
        ({"most": 1.0}, "param 'most' is not a whole number of 32 bits"),
        ({"most": 2**31}, "param 'most' is not a whole number of 32 bits"),
        ({"names": "x"}, "param 'names' is not a list"),
        ({"names": ["x", 1]}, "param 'names', element 1 is not a text"),
        ({"deep": 1}, "param 'deep' is not true or false"),
        ({"since": "yesterday"}, "param 'since' is not an ISO 8601 time as a text"),
        ({"since": 3}, "param 'since' is not an ISO 8601 time as a text"),
        ({"more": [1]}, "param 'more' is not an object"),
        ({"names": ["x" * 70_000]}, "larger than 65536 bytes"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(way: Any, given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as caught:
        way(given)
    assert says in caught.value.message


def test_parameters_about_the_request_are_none_of_the_model() -> None:
    read = v2({"entity": "ann", "timeout": 1000, "content_type": "pd", "most": 3})
    assert (read.entity, read.params) == ("ann", b'{"most":3}')


def test_a_model_without_params_is_asked_as_before() -> None:
    assert v2({"most": 3}, NUMBERS).params == b""
    with pytest.raises(BadInput, match=r"`params` \('most'\) are not taken with a request"):
        invoked({"most": 3}, NUMBERS)
    with pytest.raises(BadInput, match="`params` must be an object"):
        invoked([1])


def test_beside_a_sensitive_column_the_log_has_no_text_of_a_param() -> None:
    hidden = tuple(column.model_copy(update={"sensitive": True}) for column in SET.columns)
    using = codec(SET.model_copy(update={"columns": hidden}))
    told = using.told(b'{"most":3,"names":["ann"],"more":{"name":"ann"}}')
    assert b"ann" not in told and orjson.loads(told)["most"] == 3


async def test_requests_with_other_params_never_share_a_call() -> None:
    class Set(Elsewhere):
        said: list[tuple[int, bytes]]

        async def call(self, inputs: Any, params: bytes = b"") -> Any:
            self.said.append((len(inputs["x"]), params))
            return await super().call(inputs)

    remote = Set()
    remote.said, remote.calls = [], 1
    lane = Lane(remote, LIMITS, joinable=True)
    given = [b"", b'{"a":1}', b'{"a":1}', b'{"a":2}', b'{"a":1}']
    asked = [asyncio.create_task(lane.run(one(1), 1, params=b""))]
    await under_way(remote, 1)
    asked += [asyncio.create_task(lane.run(one(1), 1, params=each)) for each in given]
    await asyncio.sleep(0)
    remote.let.set()
    await asyncio.gather(*asked)
    apart = [(1, b""), (2, b'{"a":1}'), (1, b'{"a":2}'), (1, b'{"a":1}')]
    assert remote.said == [(1, b""), *apart]
    remote.said.clear()
    made = await lane.run_all([Asked(one(1), 1, each) for each in given])
    assert not [each for each in made if isinstance(each, Refusal)] and remote.said == apart


class Asking:
    """A model elsewhere that decides 0, and remembers its calls: rows and params."""

    calls, down, away, cpu_s, rss = 1, "", "", 0.0, 0

    def __init__(self) -> None:
        self.said: list[tuple[int, bytes]] = []

    async def call(self, inputs: Arrays, params: bytes = b"") -> Arrays:
        rows = len(inputs["X"])
        self.said.append((rows, params))
        return {"label": np.zeros(rows, np.int64), "probabilities": np.zeros((rows, 2), np.float32)}

    def close(self) -> None:
        """Nothing is held."""


async def test_of_a_micro_batch_records_with_other_params_never_share_a_call(tmp_path: Path) -> None:
    house, model = House(tmp_path / "home"), Asking()
    variant = house.variant("credit", "sha256:" + "0" * 64, schema=SET, format="mlflow")
    origin = Origin.of(house.change("credit", variant), variant)
    lane = Lane(model, LIMITS, joinable=True)
    served = Served(origin, variant, lane, Tokeniser.of(house.settings.keys), Account(origin))
    tensor = {"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    given: list[dict[str, Any]] = [{}, {"most": 1}, {"most": 1}, {"most": 2}, {"most": "x"}, {}]
    items = [Item(Record(n), orjson.dumps({"inputs": [tensor], "parameters": p})) for n, p in enumerate(given)]
    await Scoring(served).score(items)
    assert model.said == [(2, b""), (2, b'{"most":1}'), (1, b'{"most":2}')]
    assert [item.answer is not None for item in items] == [True, True, True, True, False, True]
    assert items[4].refusal and "'most' is not a whole number" in items[4].refusal.message
    nothing: Any = None
    records = BatchRecords(served, nothing, now(), 1.0)
    for item in items[:2]:
        item.envelope, item.inference_id = Envelope("1", "shop", None, None), "one"
    assert [records.record(item).described().get("params") for item in items[:2]] == [None, {"most": 1}]


@pytest.fixture
def house(tmp_path: Path, shared_environments: Path) -> House:
    house = House(tmp_path / "home")
    (house.home / "environments").symlink_to(shared_environments)
    return house


@pytest.mark.timeout(400)
def test_mlflow_s_client_sets_params_of_a_pyfunc_and_the_log_says_which(house: House, tmp_path: Path) -> None:
    environments = Environments.of(CatalogSettings(home=house.home))
    made = registered(house, code_models.mlflow_params(tmp_path / "cut", environments))
    told = {each.name: (each.type, each.default, each.shape) for each in made.model_schema.params}
    assert told == {
        "threshold": ("double", 0.0, None), "factors": ("double", [1.0], (-1,)), "yes": ("string", "yes", None),
        "count": ("boolean", False, None), "since": ("datetime", told["since"][1], None),
    }  # fmt: skip
    assert told["since"][1].startswith("2026-01-01")
    asked: list[dict[str, Any] | None] = [
        None, {}, {"threshold": 1}, {"threshold": 1.0, "factors": [2.0, 2.0], "yes": "grant"},
    ]  # fmt: skip
    with Worker(house) as worker:
        serve(house, worker, "cut", made)
        token = house.token()
        said = code_models.mlflow_client(worker.url, "cut", token, asked, tmp_path / "cut", environments)
        assert said == [["yes"], ["yes"], ["no"], ["grant"]]
        body = {"dataframe_split": {"columns": code_models.COLUMNS, "data": [[0.5, 0.25, 0]]}}
        wrong = worker.post("/invocations/cut", body | {"params": {"treshold": 1}}, token)
        assert wrong.status_code == 400 and "'treshold' is not one of this model" in wrong.text
        tensor = {"name": "X", "shape": [2, 3], "datatype": "FP64", "data": [1, 0, 0, 0, 0, 0]}
        over_v2 = worker.infer("cut", {"inputs": [tensor], "parameters": {"yes": "grant", "count": True}}, token)
        assert over_v2.json()["outputs"][0]["data"] == ["grant of 2", "no of 2"]
        metadata = worker.get("/v2/models/cut", token).json()["parameters"]["params"]
        assert metadata[0] == {"name": "threshold", "type": "double", "default": 0.0, "shape": None}
    records = [json.loads(LogRecord.from_spool(payload).value("w", 1)) for _, payload in worker.spooled()]
    assert [record.get("params") for record in records] == [
        None, None, {"threshold": 1}, asked[3], {"yes": "grant", "count": True},
    ]  # fmt: skip
