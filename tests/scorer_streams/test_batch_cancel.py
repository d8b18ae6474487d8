"""A batch that is cancelled: nothing more of it is scored, and what was decided stays."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx

from services.kit.testing import eventually

from .conftest import Stage
from .test_batches import URL, client, done, log_of, parquet, submit, table

__all__ = ["client"]


async def cancel(client: httpx.AsyncClient, id: str) -> httpx.Response:
    return await client.post(f"{URL}/{id}/cancel")


async def job_of(client: httpx.AsyncClient, id: str) -> dict[str, Any]:
    return (await client.get(f"{URL}/{id}")).json()


async def test_a_batch_in_line_is_cancelled_and_never_begun(stage: Stage, client: httpx.AsyncClient) -> None:
    id = (await submit(client, parquet(table(600)))).json()["id"]
    answer = await cancel(client, id)
    assert answer.status_code == 200 and answer.json()["state"] == "cancelled"
    assert answer.json()["reason"] == "cancelled by application" and answer.json()["finished_at"]
    assert (await cancel(client, id)).json() == answer.json(), "once is as good as twice"
    stage.start("batches", FAIRLEAD_BATCH_PROCESSES="1")
    other = (await submit(client, parquet(table(600)))).json()["id"]
    assert (await done(client, other, within=60))["state"] == "done"
    assert await job_of(client, id) == answer.json() and not await log_of(stage, id)
    refused = await client.get(f"{URL}/{id}/result")
    assert refused.status_code == 409 and "cancelled by application" in refused.json()["detail"]


async def test_what_was_decided_before_a_cancel_stays_decided(stage: Stage, client: httpx.AsyncClient) -> None:
    stage.start("batches", FAIRLEAD_BATCH_PROCESSES="1")
    id = (await submit(client, parquet(table(300_000)))).json()["id"]

    async def under_way() -> bool:
        return (await job_of(client, id))["rows_done"] >= 1_000

    await eventually(under_way, within=60, every=0.05)
    assert (await cancel(client, id)).status_code == 200
    other = (await submit(client, parquet(table(600)))).json()["id"]
    assert (await done(client, other, within=60))["state"] == "done", "the line goes on behind it"
    job = await job_of(client, id)
    assert job["state"] == "cancelled" and 1_000 <= job["rows_done"] < 300_000 and job["result"] is None
    await asyncio.sleep(1)
    assert (await job_of(client, id))["rows_done"] == job["rows_done"]
    assert sum(each.rows for each in await log_of(stage, id)) == job["rows_done"]


async def test_what_is_done_or_of_somebody_else_is_not_cancelled(stage: Stage, client: httpx.AsyncClient) -> None:
    stage.start("batches", FAIRLEAD_BATCH_PROCESSES="1")
    id = (await submit(client, parquet(table(600)))).json()["id"]
    await done(client, id, within=60)
    answer = await cancel(client, id)
    assert answer.status_code == 409 and answer.json()["detail"] == f"batch {id} is done"
    assert (await client.get(f"{URL}/{id}/result")).status_code == 200
    elsewhere = {"Authorization": f"Bearer {stage.house.token('other', ('wealth',), 'application')}"}
    assert (await client.post(f"{URL}/{id}/cancel", headers=elsewhere)).status_code == 404
    assert (await cancel(client, str(uuid4()))).status_code == 404
    assert (await cancel(client, "x")).status_code == 422
