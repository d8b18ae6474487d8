"""Batches from and to a bucket of a store that speaks S3, over a connection that an administrator approved."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from pyarrow import csv

from services.kit.testing import eventually
from tests.buckets import S3, s3

from .conftest import Stage
from .test_batch_schedules import PATH, batches, client, runs
from .test_batches import URL, done, parquet, result, table

__all__ = ["client"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3]:
    with s3() as made:
        yield made


@pytest.fixture
def approved(stage: Stage, bucket: S3, tmp_path: Path) -> Path:
    """The file of the connections: a good one, and two that an administrator got wrong."""
    secret = tmp_path / "secret"
    secret.write_text(bucket.key)
    path = stage.house.settings.connections_path
    path.write_text(yaml.safe_dump({"connections": [
        {"name": "rows"} | bucket.connection(secret_access_key={"file": str(secret)}),
        {"name": "wrong-key"} | bucket.connection(secret_access_key="not-the-key"),
        {"name": "nowhere"} | bucket.connection("no-such-bucket"),
    ]}))  # fmt: skip
    return secret


IN_AND_OUT = {
    "endpoint": "loans", "input": {"connection": "rows", "path": "in/rows.parquet"},
    "output": {"connection": "rows", "path": "scored/{id}.csv", "format": "csv"},
}  # fmt: skip


async def test_a_file_of_a_bucket_is_scored_and_its_result_written_into_the_bucket(
    stage: Stage, client: httpx.AsyncClient, bucket: S3, approved: Path
) -> None:
    bucket.put("june/in/rows.parquet", parquet(table(700)))
    stage.start("batches")
    answer = await client.post(URL, json=IN_AND_OUT)
    assert answer.status_code == 202, answer.text
    job = await done(client, answer.json()["id"])
    assert (job["state"], job["rows_done"]) == ("done", 700), job
    written = bucket.get(f"june/scored/{job['id']}.csv")
    (approved.parent / "written.csv").write_bytes(written)
    scores = csv.read_csv(approved.parent / "written.csv")["score"].to_pylist()
    assert scores == (await result(client, job["id"]))["score"].to_pylist()


@pytest.mark.parametrize(("source", "path", "status", "reason"), [
    ("wrong-key", "in/a.csv", 503, "connection wrong-key cannot be used now (the store refuses its key"),
    ("nowhere", "in/a.csv", 503, "connection nowhere cannot be used now (the store has no such bucket)"),
    ("rows", "in/gone.csv", 422, "connection rows has no in/gone.csv"),
])  # fmt: skip
async def test_a_bucket_that_does_not_give_a_file_says_why_and_no_secret(
    client: httpx.AsyncClient, bucket: S3, approved: Path, source: str, path: str, status: int, reason: str
) -> None:
    answer = await client.post(URL, json={"endpoint": "loans", "input": {"connection": source, "path": path}})
    assert answer.status_code == status and reason in answer.json()["detail"], answer.text
    assert "not-the-key" not in answer.text and bucket.key not in answer.text


async def test_a_result_waits_for_a_key_that_is_refused_and_is_written_once_it_is_renewed(
    stage: Stage, client: httpx.AsyncClient, bucket: S3, approved: Path
) -> None:
    bucket.put("june/in/rows.parquet", parquet(table(40)))
    id = (await client.post(URL, json=IN_AND_OUT)).json()["id"]
    approved.write_text("an-old-key")
    process = stage.start("batches")

    async def scored() -> bool:
        return (await client.get(f"{URL}/{id}")).json()["rows_done"] == 40

    await eventually(scored, within=60, every=0.1)
    assert (await client.get(f"{URL}/{id}")).json()["state"] == "running"
    assert process.poll() is None
    approved.write_text(bucket.key)
    assert (await done(client, id))["state"] == "done"
    assert bucket.get(f"june/scored/{id}.csv").count(b"\n") == 41


async def test_files_that_arrive_in_a_bucket_are_scored_once_and_another_version_is_another_file(
    stage: Stage, client: httpx.AsyncClient, bucket: S3, approved: Path
) -> None:
    order = {"endpoint": "loans", "arrives": {"connection": "rows", "prefix": "new"}}
    id = (await client.post(PATH, json=order)).json()["id"]
    process = stage.start("batches")
    sizes = [11]

    async def all_done() -> bool:
        made = await batches(client, id)
        return sorted(job["rows_done"] for job in made if job["state"] == "done") == sizes

    bucket.put("june/new/a.parquet", parquet(table(11)))
    assert await eventually(all_done, within=60, every=0.3)
    process.kill()
    process.wait()
    stage.start("batches")
    bucket.put("june/new/b.parquet", parquet(table(12)))
    bucket.put("june/new/a.parquet", parquet(table(13)))
    sizes += [12, 13]
    assert await eventually(all_done, within=60, every=0.3)
    found = await runs(client, id)
    assert len(found) == 3 and sorted(run["key"].partition("@")[0] for run in found) == [
        "new/a.parquet", "new/a.parquet", "new/b.parquet",
    ]  # fmt: skip


async def test_a_file_that_cannot_be_read_holds_up_no_other_and_is_named(
    stage: Stage, client: httpx.AsyncClient, bucket: S3, approved: Path
) -> None:
    order = {"endpoint": "loans", "arrives": {"connection": "rows", "prefix": "mixed"}}
    id = (await client.post(PATH, json=order)).json()["id"]
    bucket.put("june/mixed/a.parquet", parquet(table(11)), **{"Storage-Class": "GLACIER"})  # it is listed, not given
    bucket.put("june/mixed/b.parquet", parquet(table(12)))
    stage.start("batches")

    async def scored() -> bool:
        return [job["rows_done"] for job in await batches(client, id) if job["state"] == "done"] == [12]

    assert await eventually(scored, within=60, every=0.3)

    async def told() -> bool:
        return "mixed/a.parquet: connection rows" in ((await client.get(f"{PATH}/{id}")).json()["reason"] or "")

    assert await eventually(told, within=30, every=0.3)
    bucket.put("june/mixed/a.parquet", parquet(table(13)))
    sizes = [12, 13]

    async def both() -> bool:
        made = await batches(client, id)
        return sorted(job["rows_done"] for job in made if job["state"] == "done") == sizes

    assert await eventually(both, within=90, every=0.3)
