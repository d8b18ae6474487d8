"""Batches: a file in, every row decided once, a file out; real PostgreSQL, Kafka and processes."""

import asyncio
import io
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from httpx import ASGITransport

from contracts import AlertRaised, InferenceLogged, Service
from services.kit.connections import Connections
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.profiles import build_profile
from services.kit.service import Parts, application
from services.kit.testing import eventually
from services.kit.turns import Turns
from services.scorer.batches import jobs
from services.scorer.batches.api import LARGEST_JSON, router
from services.scorer.batches.chunks import Done, Task
from services.scorer.batches.executors import Here, Processes
from services.scorer.batches.inputs import Inputs
from services.scorer.batches.jobs import Runner
from services.scorer.batches.places import Places
from services.scorer.batches.serving import Serving
from services.scorer.batches.sheet import Sheet, to_parquet
from services.scorer.batches.usecases import Batches
from services.scorer.endpoints import Endpoint
from services.scorer.settings import ScorerSettings
from tests.scorer.making import NUMBERS, classifier, package

from .conftest import Stage, read

URL = "/v1/batches"


@pytest.fixture
async def client(
    stage: Stage, service_db: Callable[[Service], Database], service_url: Callable[[Service], str]
) -> AsyncIterator[httpx.AsyncClient]:
    """The scorer's HTTP side of batches; the process that does them is started by each test."""
    settings, db = stage.house.settings, service_db("scorer")
    stage.database = service_url("scorer")
    serving = Serving(settings)
    stage.serve("loans", classifier())
    objects = Objects(settings)
    batches = Batches(db, objects, Inputs.of(settings, objects), serving.allowed, places(settings), chunk_rows=500)
    app = application(
        Parts(service="scorer", settings=settings, db=db, routers=[router(batches, Turns("files", 8, 2))])
    )
    authorization = {"Authorization": f"Bearer {stage.house.token()}"}
    async with httpx.AsyncClient(
        transport=ASGITransport(app), base_url="http://scorer", headers=authorization
    ) as made:  # fmt: skip
        yield made


def places(settings: ScorerSettings) -> Places:
    return Places(Connections.of(settings))


def table(count: int) -> pa.Table:
    values = np.random.default_rng(5).normal(size=(count, 3)).round(4)
    return pa.table({"debt": values[:, 2], "age": values[:, 0], "note": ["x"] * count, "income": values[:, 1]})


def parquet(rows: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, **options)
    return sink.getvalue()


def serving_in_process(
    settings: ScorerSettings, db: Database, batches: Batches, headers: Mapping[str, str]
) -> httpx.AsyncClient:
    """A client of an API of this test's own."""
    routers = [router(batches, Turns("files", 8, 2))]
    app = application(Parts(service="scorer", settings=settings, db=db, routers=routers))
    return httpx.AsyncClient(transport=ASGITransport(app), base_url="http://s", headers=headers)


async def submit(client: httpx.AsyncClient, data: bytes, name: str = "rows.parquet") -> httpx.Response:
    return await client.post(URL, data={"endpoint": "loans"}, files={"file": (name, data)})


async def done(client: httpx.AsyncClient, id: str, within: float = 60) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        job = (await client.get(f"{URL}/{id}")).json()
        return job if job["state"] in ("done", "failed") else None

    return await eventually(ended, within=within, every=0.2)


async def result(client: httpx.AsyncClient, id: str) -> pa.Table:
    answer = await client.get(f"{URL}/{id}/result")
    assert answer.status_code == 200
    return pq.read_table(io.BytesIO(answer.content))


async def log_of(stage: Stage, id: str) -> list[InferenceLogged]:
    found = await read(stage.operator, "inference.logged", lambda said: said.get("ce_subject") == b"loans")
    logs = [InferenceLogged.from_json(value) for value in found.values()]
    return [log for log in logs if log.writer == f"batch.{id}"]


async def test_every_row_of_a_file_is_decided_logged_and_returned(stage: Stage, client: httpx.AsyncClient) -> None:
    stage.start("batches")
    accepted = await submit(client, parquet(table(1_234), row_group_size=300))
    assert accepted.status_code == 202, accepted.text
    id = accepted.json()["id"]
    assert accepted.headers["location"] == f"{URL}/{id}"
    job = await done(client, id)
    assert (job["state"], job["rows_total"], job["rows_done"], job["rows_failed"]) == ("done", 1_234, 1_234, 0)
    rows = await result(client, id)
    assert rows["input_row"].to_pylist() == list(range(1_234))
    values = np.random.default_rng(5).normal(size=(1_234, 3)).round(4)
    close = np.abs(values.sum(axis=1)) > 0.3
    assert (rows["prediction"].to_numpy()[close] == (values.sum(axis=1) > 0)[close]).all()
    assert ((rows["score"].to_numpy() > 0.5) == (rows["prediction"].to_numpy() == 1)).all()
    logs = await log_of(stage, id)
    assert sorted((log.seq, log.rows) for log in logs) == [(1, 500), (2, 500), (3, 234)]
    assert {log.inference_id for log in logs} == set(rows["inference_id"].to_pylist())
    first = next(log for log in logs if log.seq == 1)
    assert first.mode == "batch" and first.application == "application" and first.unit == "retail"
    assert first.request["inputs"][0]["shape"] == [500, 3]
    assert first.response["outputs"][0]["data"] == rows["prediction"].to_pylist()[:500]
    assert rows["row"].to_pylist()[500:502] == [0, 1]


async def test_a_result_that_was_altered_is_not_handed_out_and_an_alert_says_so(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    stage.start("batches")
    id = (await submit(client, parquet(table(10)))).json()["id"]
    job = await done(client, id)
    (stored,) = (stage.house.home / "objects").rglob(job["result_digest"].removeprefix("sha256:"))
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    answer = await client.get(f"{URL}/{id}/result")
    assert (answer.status_code, answer.json()["title"]) == (500, "Altered")

    async def told() -> list[AlertRaised]:
        found = await read(stage.operator, "alert.raised", lambda _: True)
        return [alert for alert in map(AlertRaised.from_json, found.values()) if id in alert.subject]

    (alert,) = await eventually(told, within=20, every=0.2)
    assert (alert.kind, alert.severity) == ("result-altered", "critical")


async def test_a_row_that_cannot_be_decided_says_why_and_harms_no_other(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    stage.start("batches")
    rows = table(600)
    income = rows["income"].to_numpy().copy()
    income[[3, 4, 599]] = np.nan
    rows = rows.set_column(3, "income", pa.array(income, from_pandas=True))
    job = await done(client, (await submit(client, parquet(rows))).json()["id"])
    assert (job["state"], job["rows_failed"]) == ("done", 3)
    out = await result(client, job["id"])
    wrong = [row for row in out.to_pylist() if row["error"]]
    assert [row["input_row"] for row in wrong] == [3, 4, 599]
    assert all("income" in row["error"] and row["prediction"] is None and "row" not in row["error"] for row in wrong)
    assert sum(log.rows for log in await log_of(stage, job["id"])) == 597


async def test_files_that_are_no_batch_are_refused_with_what_is_wrong(stage: Stage, client: httpx.AsyncClient) -> None:
    good = table(3)
    cases = {
        b"": "empty",
        b"PAR1 and nothing else": "Parquet",
        b"\x89PNG\r\n": "neither Parquet nor CSV",
        parquet(good.drop_columns(["income"])): "income",
        parquet(good.set_column(0, "debt", pa.array(["a", "b", "c"]))): "debt",
        parquet(good.slice(0, 0)): "no rows",
    }
    for data, named in cases.items():
        answer = await submit(client, data, "file.bin")
        assert 400 <= answer.status_code < 500 and named in answer.json()["detail"], (named, answer.text)
        assert len(answer.content) < 2048
    assert (await submit(client, b"age,income\n1,2,3,4\n", "rows.csv")).status_code == 422
    strange = {"endpoint": "loans", "versoin": "2"}
    misspelt = await client.post(URL, data=strange, files={"file": ("a", parquet(good))})
    assert misspelt.status_code == 422 and "versoin" in misspelt.text
    missing = await client.post(URL, data={"endpoint": "nowhere"}, files={"file": ("a", parquet(good))})
    assert missing.status_code == 404
    assert (await client.post(URL, data={"endpoint": "loans"})).status_code == 422
    assert (await client.post(URL, content=b"x", headers={"Content-Type": "image/png"})).status_code == 422
    assert (await client.get(f"{URL}/{uuid4()}")).status_code == 404
    assert (await client.get(URL)).json()["items"] == []


@pytest.mark.parametrize(("name", "line", "head"), [
    ("rows.csv", "{age},2,3,{note}\n", "age,income,debt,note\n"),
    ("rows.jsonl", '{{"age":{age},"income":2,"debt":3,"note":"{note}"}}\n', ""),
])  # fmt: skip
async def test_a_file_of_text_is_read_in_pieces_and_no_type_is_guessed_from_its_first_lines(
    tmp_path: Path, name: str, line: str, head: str
) -> None:
    path = tmp_path / "upload"
    many = (line.format(age=i, note="7") for i in range(150_000))
    path.write_text(head + "".join(many) + line.format(age=0.5, note="seven"))
    sheet = Sheet(await to_parquet(path, name, "", NUMBERS))
    sheet.check(NUMBERS)
    chunks = [batch["age"].to_pylist() for _, batch in sheet.batches(NUMBERS, 4000)]
    assert (sheet.rows, chunks[0][-1], chunks[-1][-1]) == (150_001, 3999, 0.5)
    assert pq.ParquetFile(path.with_suffix(".parquet")).num_row_groups > 1


@pytest.mark.parametrize(("body", "status", "named"), [
    (b'{"endpoint":"loans","endpoint":"loans","rows":[{"age":1,"income":2,"debt":3}]}', 422, "endpoint"),
    (b'{"endpoint":"loans","rows":[{"age":1,"age":2,"income":2,"debt":3}]}', 422, "age"),
    (b'{"endpoint":"loans","rows":[{"age":NaN,"income":2,"debt":3}]}', 422, "JSON"),
    (b'{"endpoint":"loans","rows":[' + b" " * LARGEST_JSON + b"]}", 413, "larger"),
])  # fmt: skip
async def test_rows_as_json_are_strict_json_of_bounded_size(
    client: httpx.AsyncClient, body: bytes, status: int, named: str
) -> None:
    answer = await client.post(URL, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, named in answer.text) == (status, True), answer.text


async def test_csv_json_lines_and_json_rows_are_files_too(stage: Stage, client: httpx.AsyncClient) -> None:
    stage.start("batches")
    answers = [
        await submit(client, b"age,income,debt\n1,2,3\n4,5,6\n", "rows.csv"),
        await submit(client, b'{"age":1,"income":2,"debt":3}\n{"age":4,"income":5,"debt":6}\n', "rows.jsonl"),
        await client.post(URL, json={"endpoint": "loans", "rows": [{"age": 1, "income": 2, "debt": 3}]}),
        await client.post(URL + "?endpoint=loans", content=parquet(table(2)),
                          headers={"Content-Type": "application/vnd.apache.parquet"}),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [202] * 4
    jobs = [await done(client, answer.json()["id"]) for answer in answers]
    assert [(job["state"], job["rows_done"]) for job in jobs] == [("done", 2), ("done", 2), ("done", 1), ("done", 2)]
    listed = (await client.get(URL, params={"limit": 3})).json()
    assert [job["id"] for job in listed["items"]] == [job["id"] for job in reversed(jobs)][:3]
    rest = (await client.get(URL, params={"limit": 3, "cursor": listed["next"]})).json()
    assert [job["id"] for job in rest["items"]] == [jobs[0]["id"]] and rest["next"] is None


async def test_a_bad_cell_of_a_file_of_text_fails_its_row_alone_and_names_the_column(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    stage.start("batches")
    lines = [b"1,2,%d\n" % row for row in range(600)]
    lines[3], lines[599] = b"1,abc,3\n", b"1,,599\n"
    row = {"age": 1, "income": 2, "debt": 3}
    answers = [
        await submit(client, b"age,income,debt\n" + b"".join(lines), "rows.csv"),
        await submit(client, b'{"age":1,"income":2,"debt":3}\n{"age":4,"income":"abc","debt":6}\n', "rows.jsonl"),
        await client.post(URL, json={"endpoint": "loans", "rows": [row, row | {"income": "abc"}, row | {"debt": 1.5}]}),
    ]
    assert [answer.status_code for answer in answers] == [202] * 3, [answer.text for answer in answers]
    jobs = [await done(client, answer.json()["id"]) for answer in answers]
    assert [(job["state"], job["rows_total"], job["rows_failed"]) for job in jobs] == [
        ("done", 600, 2), ("done", 2, 1), ("done", 3, 1),
    ]  # fmt: skip
    outs = [(await result(client, job["id"])).to_pylist() for job in jobs]
    wrong = [{row["input_row"]: row["error"] for row in out if row["error"]} for out in outs]
    said = "column 'income' is not a number"
    assert wrong == [{3: said, 599: "column 'income' is missing"}, {1: said}, {1: said}]
    assert all((row["prediction"] is None) == (row["error"] is not None) for out in outs for row in out)
    assert jobs[0]["summary"]["decisions"]["errors"] == {said: 1, "column 'income' is missing": 1}
    assert sum(log.rows for log in await log_of(stage, jobs[0]["id"])) == 598


def arrow(rows: pa.Table, *, stream: bool, compression: str | None = None) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, rows.schema, options=options) as writer:
        writer.write_table(rows, max_chunksize=100)
    return sink.getvalue()


async def test_arrow_files_and_streams_are_read_and_results_come_in_the_format_that_is_asked_for(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    stage.start("batches")
    files = [arrow(table(250), stream=False), arrow(table(250), stream=True, compression="zstd")]
    ids = [(await submit(client, data, "rows.arrow")).json()["id"] for data in files]
    one, other = [(await done(client, id), await result(client, id))[1] for id in ids]
    assert one["score"].to_pylist() == other["score"].to_pylist() and one.num_rows == 250
    rows = one.to_pylist()
    path = f"{URL}/{ids[0]}/result"
    lines = (await client.get(path, params={"format": "jsonl"})).text.splitlines()
    assert [orjson.loads(line) for line in lines] == rows
    stream = (await client.get(path, params={"format": "arrow"})).content
    assert pa.ipc.open_stream(stream).read_all().to_pylist() == rows
    text = (await client.get(path, params={"format": "csv"})).content
    assert csv.read_csv(io.BytesIO(text))["score"].to_pylist() == one["score"].to_pylist()
    refused = await client.get(path, params={"format": "xlsx"})
    assert refused.status_code == 422 and "format" in refused.text


async def test_a_finished_batch_tells_its_decisions_and_how_far_its_rows_are_from_the_baseline(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    profile = build_profile(table(4_000).drop_columns(["note"]), NUMBERS)
    baseline = await Objects(stage.house.settings).put(profile.model_dump_json().encode())
    variant = stage.house.variant("loans", stage.house.keep(package(classifier())), 1, NUMBERS)
    stage.say(stage.house.change("loans", variant.model_copy(update={"baseline_digest": baseline}), revision=2))
    stage.start("batches")
    rows = table(3_000)
    incomes, ages = rows["income"].to_numpy() + 1.0, rows["age"].to_numpy().copy()
    ages[:30] = np.nan
    rows = rows.set_column(3, "income", pa.array(incomes)).set_column(1, "age", pa.array(ages, from_pandas=True))
    job = await done(client, (await submit(client, parquet(rows))).json()["id"])
    said = job["summary"]
    assert (said["rows"], said["refused"], said["decisions"]["versions"]) == (3_000, 30, {"1": 2_970})
    predictions = (await result(client, job["id"]))["prediction"].to_pylist()
    counted = {str(value): count for value, count in Counter(predictions).items() if value is not None}
    assert said["decisions"]["predictions"] == counted
    assert 0 < said["decisions"]["score"]["mean"] < 1
    first, *others = said["drift"]["features"]
    assert first["name"] == "income" and 0.85 < first["effect"] < 1.15
    assert first["low"] < first["effect"] < first["high"]
    assert all(abs(each["effect"]) < 0.2 for each in others)
    assert next(each["missing"] for each in others if each["name"] == "age") == 0.01


def connect(settings: ScorerSettings) -> Path:
    """A folder as two connections: one for everybody, one for another unit."""
    folder = settings.connections_folder_path / "rows"
    folder.mkdir(parents=True)
    one = "  - {{name: {}, kind: objects, url: 'file://{}'{}}}\n"
    lines = [one.format("rows", folder.absolute(), ""), one.format("theirs", folder.absolute(), ", units: [wealth]")]
    settings.connections_path.write_text("connections:\n" + "".join(lines))
    return folder


async def test_a_file_of_an_approved_object_store_is_scored_and_its_result_written_beside_it(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    folder = connect(stage.house.settings)
    (folder / "june.parquet").write_bytes(parquet(table(700)))
    stage.start("batches")
    asked = {
        "endpoint": "loans", "input": {"connection": "rows", "path": "june.parquet"},
        "output": {"connection": "rows", "path": "scored/{id}.csv"},  # as it ends
    }  # fmt: skip
    answer = await client.post(URL, json=asked)
    assert answer.status_code == 202, answer.text
    job = await done(client, answer.json()["id"])
    assert (job["state"], job["rows_done"], job["file_name"]) == ("done", 700, "june.parquet")
    written = csv.read_csv(folder / "scored" / f"{job['id']}.csv")
    assert written["score"].to_pylist() == (await result(client, job["id"]))["score"].to_pylist()


@pytest.mark.parametrize(("input", "output", "field"), [
    ({"connection": "nowhere", "path": "a.csv"}, None, "input.connection"),
    ({"connection": "theirs", "path": "june.parquet"}, None, "input.connection"),
    ({"connection": "rows", "path": "../secrets/a.csv"}, None, "input.path"),
    ({"connection": "rows", "path": "/etc/passwd"}, None, "input.path"),
    ({"connection": "rows", "path": "gone.csv"}, None, "input.path"),
    ({"connection": "rows", "path": "june.parquet", "url": "http://x"}, None, "input.url"),
    ({"connection": "rows", "path": "june.parquet"}, {"connection": "theirs", "path": "a"}, "output.connection"),
    ({"connection": "rows", "path": "june.parquet"}, {"connection": "rows", "path": "a/../b"}, "output.path"),
    ({"connection": "rows", "path": "june.parquet"}, {"connection": "rows", "path": "a", "format": "xls"},
     "output.format"),
])  # fmt: skip
async def test_places_that_nobody_approved_are_refused_by_the_field_that_names_them(
    stage: Stage, client: httpx.AsyncClient, input: dict[str, str], output: dict[str, str] | None, field: str
) -> None:
    (connect(stage.house.settings) / "june.parquet").write_bytes(parquet(table(7)))
    answer = await client.post(URL, json={"endpoint": "loans", "input": input, "output": output})
    assert (answer.status_code, answer.json().get("field")) == (422, field), answer.text


async def test_hostile_arrow_files_are_refused_and_harm_nothing(client: httpx.AsyncClient) -> None:
    whole = arrow(table(3_000), stream=False)
    bomb = pa.table({name: pa.array(np.zeros(60_000_000)) for name in ("debt", "age", "income")})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, bomb.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(bomb)
    assert len(sink.getvalue()) < 1024**2
    cut = whole[: len(whole) // 2]
    flipped = bytearray(whole)
    flipped[200:280] = b"\xff" * 80
    for data in (sink.getvalue(), cut, bytes(flipped), b"ARROW1", b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 9):
        answer = await submit(client, data, "rows.arrow")
        assert answer.status_code == 422 and "Arrow" in answer.json()["detail"], answer.text
        assert answer.json()["field"] == "file"


async def test_another_business_unit_sees_no_batch_and_may_not_make_one(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    id = (await submit(client, parquet(table(2)))).json()["id"]
    stranger = {"Authorization": f"Bearer {stage.house.token('other-unit', ('wealth',), 'engineer')}"}
    assert (await client.get(f"{URL}/{id}", headers=stranger)).status_code == 404
    assert (await client.get(URL, headers=stranger)).json()["items"] == []
    denied = await client.post(
        URL, data={"endpoint": "loans"}, files={"file": ("a", parquet(table(2)))}, headers=stranger
    )
    assert denied.status_code == 404
    assert (await client.get(f"{URL}/{id}", headers={"Authorization": ""})).status_code == 401


@pytest.mark.timeout(240)
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_batch_survives_kills_without_repeating_or_skipping_a_row(
    stage: Stage, client: httpx.AsyncClient, processes: str
) -> None:
    count, chance = 60_000, random.Random(11)
    id = (await submit(client, parquet(table(count)))).json()["id"]
    seen, kills = 0, 0
    while True:
        process = stage.start("batches", FAIRLEAD_BATCH_PROCESSES=processes)

        async def goes_on(least: int = seen) -> dict[str, Any] | None:
            job = (await client.get(f"{URL}/{id}")).json()
            return job if job["rows_done"] > least or job["state"] == "done" else None

        job = await eventually(goes_on, within=60, every=0.05)
        if job["state"] == "done":
            break
        await asyncio.sleep(chance.uniform(0, 0.2))
        process.kill()
        process.wait()
        kills += 1
        seen = (await client.get(f"{URL}/{id}")).json()["rows_done"]
        assert kills < 30 or await done(client, id)
        if kills >= 4:
            stage.start("batches", FAIRLEAD_BATCH_PROCESSES=processes)
            assert (await done(client, id, within=90))["state"] == "done"
            break
    assert kills >= 2
    rows = await result(client, id)
    assert rows["input_row"].to_pylist() == list(range(count))
    logs = await log_of(stage, id)
    distinct = {log.seq: log for log in logs}
    assert sorted(distinct) == list(range(1, count // 500 + 1))
    assert all(log == distinct[log.seq] for log in logs)
    assert Counter(rows["inference_id"].to_pylist()) == {log.inference_id: log.rows for log in distinct.values()}


def in_large_chunks(stage: Stage, db: Database, headers: Mapping[str, str]) -> httpx.AsyncClient:
    """A client of an API whose jobs have chunks of 40,000 rows."""
    settings = stage.house.settings
    objects, serving = Objects(settings), Serving(settings)
    inputs = Inputs.of(settings, objects)
    wide = Batches(db, objects, inputs, serving.allowed, places(settings), chunk_rows=40_000)
    return serving_in_process(settings, db, wide, headers)


async def test_a_nullable_column_that_a_file_does_not_have_is_missing_and_logged_as_that(
    stage: Stage, client: httpx.AsyncClient, service_db: Callable[[Service], Database]
) -> None:
    columns = tuple(c.model_copy(update={"nullable": c.name == "debt"}) for c in NUMBERS.columns)
    schema = NUMBERS.model_copy(update={"columns": columns})
    baseline = await Objects(stage.house.settings).put(build_profile(table(4_000), schema).model_dump_json().encode())
    variant = stage.house.variant("loans", stage.house.keep(package(classifier())), 1, schema)
    stage.say(stage.house.change("loans", variant.model_copy(update={"baseline_digest": baseline}), revision=2))
    stage.start("batches")
    async with in_large_chunks(stage, service_db("scorer"), client.headers) as big:
        answer = await submit(big, parquet(table(6_000).drop_columns(["debt"])))
        assert answer.status_code == 202, answer.text
        job = await done(big, answer.json()["id"])
    assert (job["state"], job["rows_failed"]) == ("done", 0), job["reason"]
    missing = {each["name"]: each["missing"] for each in job["summary"]["drift"]["features"]}
    assert missing == {"debt": 1.0, "age": 0.0, "income": 0.0}
    (log,) = await log_of(stage, job["id"])
    asked = await Objects(stage.house.settings).get(log.request["reference"]["digest"])
    rows = pq.read_table(io.BytesIO(asked))
    assert (rows["debt"].null_count, rows["age"].null_count, rows.num_rows) == (6_000, 0, 6_000)


async def test_large_chunks_are_logged_by_reference_and_the_reference_can_be_read(
    stage: Stage, client: httpx.AsyncClient, service_db: Callable[[Service], Database]
) -> None:
    objects = Objects(stage.house.settings)
    stage.start("batches")
    async with in_large_chunks(stage, service_db("scorer"), client.headers) as big:
        job = await done(big, (await submit(big, parquet(table(70_000)))).json()["id"])
    second = next(log for log in await log_of(stage, job["id"]) if log.seq == 2)
    asked, said = second.request["reference"], second.response["reference"]
    assert (asked["first_row"], asked["rows"], said["first_row"], said["rows"]) == (40_000, 30_000, 0, 30_000)
    source = pq.read_table(io.BytesIO(await objects.get(asked["digest"])))
    answers = pq.read_table(io.BytesIO(await objects.get(said["digest"])))
    assert source.num_rows == 70_000 and answers["input_row"][0].as_py() == 40_000


async def test_planted_secrets_of_a_batch_stay_in_no_file_and_no_topic(
    stage: Stage, service_db: Callable[[Service], Database], service_url: Callable[[Service], str]
) -> None:
    settings = stage.house.settings
    stage.database = service_url("scorer")
    columns = tuple(c.model_copy(update={"sensitive": c.name == "income"}) for c in NUMBERS.columns)
    stage.serve("loans", classifier(), NUMBERS.model_copy(update={"columns": columns}))
    serving = Serving(settings)
    objects = Objects(settings)
    batches = Batches(service_db("scorer"), objects, Inputs.of(settings, objects), serving.allowed, places(settings))
    stage.start("batches")
    authorization = {"Authorization": f"Bearer {stage.house.token()}"}
    async with serving_in_process(settings, service_db("scorer"), batches, authorization) as client:
        job = await done(client, (await submit(client, b"age,income,debt\n1,424242.125,3\n", "rows.csv")).json()["id"])
    assert job["state"] == "done"
    logs = await log_of(stage, job["id"])
    assert len(logs) == 1 and "tok_" in str(logs[0].request) and "424242" not in str(logs[0])
    planted = (b"424242", np.float64(424242.125).tobytes(), np.float32(424242.125).tobytes())
    for path in settings.home.rglob("*"):
        assert not path.is_file() or not any(secret in path.read_bytes() for secret in planted), path


def damaged(rows: pa.Table, column: str, group: int) -> bytes:
    """A file whose footer is good, and one of whose pages is not."""
    data = bytearray(parquet(rows, row_group_size=500))
    metadata = pq.read_metadata(io.BytesIO(bytes(data))).row_group(group)
    part = next(metadata.column(i) for i in range(metadata.num_columns) if metadata.column(i).path_in_schema == column)
    at = part.dictionary_page_offset or part.data_page_offset
    data[at : at + 24] = b"\xff" * 24
    return bytes(data)


async def test_a_file_that_cannot_be_read_to_its_end_fails_alone_and_says_where(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    bad = (await submit(client, damaged(table(2_000), "income", 2))).json()["id"]
    good = (await submit(client, parquet(table(600)))).json()["id"]
    stage.start("batches")
    assert (await done(client, good))["state"] == "done"
    job = await done(client, bad)
    assert job["state"] == "failed" and "'income'" in job["reason"] and "row 1000" in job["reason"], job["reason"]
    assert job["result"] is None and job["rows_done"] == 500, "what is in the log counts, whatever ends the job"
    assert (await client.get(f"{URL}/{bad}/result")).status_code == 409


async def test_a_job_says_why_its_endpoint_was_not_to_be_had(
    stage: Stage, client: httpx.AsyncClient, service_db: Callable[[Service], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, db = stage.house.settings, service_db("scorer")
    objects, serving = Objects(settings), Serving(settings)
    runner = Runner(settings, db, objects, Inputs.of(settings, objects), serving, Progress())
    id = (await submit(client, parquet(table(2)))).json()["id"]
    stage.serve("loans", b"no model", revision=2)
    monkeypatch.setattr(jobs, "_PATIENCE", timedelta(0))
    running = asyncio.create_task(runner.run())
    job = await done(client, id)
    running.cancel()
    assert job["state"] == "failed"
    assert "endpoint loans cannot be loaded here: the model cannot be opened" in job["reason"]


class Breaking(Here):
    """Fails over one job."""

    job = ""

    async def score(self, task: Task, endpoint: Endpoint) -> Done:
        if str(task.job.id) == self.job:
            raise ZeroDivisionError
        return await super().score(task, endpoint)


async def test_an_error_that_nobody_foresaw_ends_its_own_job_alone(
    stage: Stage, client: httpx.AsyncClient, service_db: Callable[[Service], Database]
) -> None:
    settings, db = stage.house.settings, service_db("scorer")
    objects = Objects(settings)
    breaking = Breaking()
    runner = Runner(settings, db, objects, Inputs.of(settings, objects), Serving(settings), Progress(), breaking)
    bad = (await submit(client, parquet(table(2)))).json()["id"]
    good = (await submit(client, parquet(table(3)))).json()["id"]
    breaking.job = bad
    running = asyncio.create_task(runner.run())
    assert (await done(client, good))["state"] == "done"
    job = await done(client, bad)
    assert job["state"] == "failed" and "ZeroDivisionError" in job["reason"]
    running.cancel()


class Stumbling(Here):
    """Fails once over each of many chunks."""

    def __init__(self) -> None:
        self.failed: set[int] = set()

    async def score(self, task: Task, endpoint: Endpoint) -> Done:
        if task.number % 2 == 0 and task.number not in self.failed:
            self.failed.add(task.number)
            raise ZeroDivisionError
        return await super().score(task, endpoint)


async def test_a_job_that_comes_forward_is_not_ended_by_many_errors(
    stage: Stage, client: httpx.AsyncClient, service_db: Callable[[Service], Database]
) -> None:
    settings, db = stage.house.settings, service_db("scorer")
    objects, stumbling = Objects(settings), Stumbling()
    runner = Runner(settings, db, objects, Inputs.of(settings, objects), Serving(settings), Progress(), stumbling)
    id = (await submit(client, parquet(table(4_500)))).json()["id"]
    running = asyncio.create_task(runner.run())
    job = await done(client, id)
    running.cancel()
    assert (job["state"], job["rows_done"]) == ("done", 4_500), job["reason"]
    assert len(stumbling.failed) > 3


class Killed(Processes):
    """Whose processes are killed three times, as by a kernel that is out of memory."""

    kills = 0

    async def score(self, task: Task, endpoint: Endpoint) -> Done:
        scoring = asyncio.ensure_future(super().score(task, endpoint))
        if self.kills < 3 and task.number == 0:
            self.kills += 1
            processes = await eventually(self._processes, within=60)
            processes[0].kill()
        return await scoring

    async def _processes(self) -> list[Any]:
        return list((self._pool._processes or {}).values()) if self._pool else []


async def test_a_job_outlives_the_processes_that_score_it(
    stage: Stage, client: httpx.AsyncClient, service_db: Callable[[Service], Database]
) -> None:
    settings, db = stage.house.settings, service_db("scorer")
    objects, killed = Objects(settings), Killed(settings, 1)
    runner = Runner(settings, db, objects, Inputs.of(settings, objects), Serving(settings), Progress(), killed)
    id = (await submit(client, parquet(table(600)))).json()["id"]
    running = asyncio.create_task(runner.run())
    job = await done(client, id, within=300)
    running.cancel()
    killed.rest()
    assert (job["state"], job["rows_done"], killed.kills) == ("done", 600, 3), job["reason"]


@pytest.mark.parametrize("query", [{"endpoint": "a\0b"}, {"endpoint": "../x"}, {"cursor": "WzVd"}, {"cursor": "x"}])
async def test_lists_refuse_what_is_no_name_and_no_cursor(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert (await client.get(URL, params=query)).status_code == 422


async def test_odd_files_are_refused_by_name(client: httpx.AsyncClient) -> None:
    good = table(3)
    twice = pa.Table.from_arrays([*good.columns, good["income"]], names=[*good.column_names, "income"])
    cases = [
        (parquet(twice), "rows.parquet", "'income' is there twice"),
        (parquet(good.set_column(0, "debt", pa.array([[1.0]] * 3))), "rows.parquet", "'debt'"),
        (parquet(good)[:-20], "rows.parquet", "Parquet"),
        (b'{"age":{}}\n', "rows.jsonl", "the column 'income' is missing; the file has age"),
    ]
    for data, name, named in cases:
        answer = await submit(client, data, name)
        assert answer.status_code == 422 and named in answer.json()["detail"], answer.text
    odd = await submit(client, parquet(good), "a\0b.parquet")
    assert odd.status_code in (202, 422), odd.text


async def test_a_small_batch_waits_for_no_large_ones_end(stage: Stage, client: httpx.AsyncClient) -> None:
    large = (await submit(client, parquet(table(200_000)))).json()["id"]
    small = (await submit(client, parquet(table(600)))).json()["id"]
    stage.start("batches", FAIRLEAD_BATCH_TURN_S="0.5")
    job = await done(client, small)
    meanwhile = (await client.get(f"{URL}/{large}")).json()
    assert job["rows_done"] == 600 and meanwhile["state"] == "running" and meanwhile["rows_done"] < 200_000
    assert (await done(client, large, within=200))["rows_done"] == 200_000
    assert sum(log.rows for log in await log_of(stage, large)) == 200_000
