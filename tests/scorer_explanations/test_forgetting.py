"""Explanations end with their decisions: when those are erased, and when they are too old."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from contracts import DecisionsErased, Service
from services.kit.burial import Burial
from services.kit.context import Context, current, system, use
from services.kit.db import Database
from services.kit.health import Progress
from services.kit.ids import now, uuid7
from services.kit.stream import PartitionBatch, Record
from services.scorer.explanations import store
from services.scorer.explanations.domain import PATH, Explanation
from services.scorer.explanations.forgetting import Forgetting
from services.scorer.settings import ScorerSettings


def about(inference_id: str) -> Explanation:
    return Explanation(
        id=uuid7(), inference_id=inference_id, row=0, unit="retail", endpoint="credit-live", model="credit", version=1,
        decided=1.0, method="exact", scale="probability", output="probabilities[1]", base=0.5, value=0.75,
        contributions=(), background=100, counterfactual=None, counterfactual_decides=None,
        no_counterfactual="there is none", seconds=0.1, asked_by="engineer", asked_at=now(),
    )  # fmt: skip


@pytest.fixture
def forgetting(home: Path, service_db: Callable[[Service], Database]) -> Forgetting:
    settings = ScorerSettings(home=home, decisions_kept_days=30)
    return Forgetting(settings, service_db("scorer"), Burial(settings, "scorer"), Progress())


async def kept(db: Database, inference_id: str) -> int:
    async with db.reading() as session:
        return len(await store.of_decision(session, inference_id))


async def add(db: Database, inference_id: str, days: int = 0) -> bool:
    async with db.transaction() as tx:
        return await store.add(tx.session, about(inference_id), now() - timedelta(days=days))


def told(*inference_ids: str) -> PartitionBatch:
    event = DecisionsErased(erasure_id=UUID(int=1), inference_ids=inference_ids)
    return PartitionBatch("decisions.erased", 0, 0, 1, 1, [Record(0, 0, b"k", event.to_json(), [])])


async def test_explanations_of_erased_decisions_go_and_none_comes_late(forgetting: Forgetting) -> None:
    db = forgetting._db
    with use(Context(system("scorer"))):
        for inference_id in ("erased", "erased", "another"):
            assert await add(db, inference_id)
        for _ in range(2):  # a repeat does nothing more
            async with db.transaction() as tx:
                await forgetting.hear(tx, told("erased", "unknown"))
        assert (await kept(db, "erased"), await kept(db, "another")) == (0, 1)
        assert not await add(db, "erased"), "it was being explained meanwhile"
        assert await kept(db, "erased") == 0


async def answered(db: Database, made: Explanation) -> None:
    """Keep an explanation with the answer that a repeat of its request would get."""
    async with db.once(f"user:ann\n{made.id}", lambda: "digest") as once:
        with use(replace(current(), claim=once)):
            async with db.transaction() as tx:
                assert await store.add(tx.session, made, now())
        await once.keep(201, {"location": f"{PATH}/{made.id}"}, b'{"contributions": ["their income"]}')


async def test_the_answers_that_told_explanations_go_with_them(forgetting: Forgetting) -> None:
    db, (gone, stays) = forgetting._db, (about("erased"), about("another"))
    with use(Context(system("scorer"))):
        await answered(db, gone)
        await answered(db, stays)
        async with db.transaction() as tx:
            await forgetting.hear(tx, told("erased"))
    async with db.chassis() as session:
        left = list(await session.scalars(text("SELECT key FROM idempotency")))
    assert left == [f"user:ann\n{stays.id}"]


async def test_explanations_are_as_old_as_decisions_may_be(forgetting: Forgetting) -> None:
    db = forgetting._db
    with use(Context(system("scorer"))):
        assert await add(db, "old", 31) and await add(db, "young", 29)
        await forgetting.forget()
        assert (await kept(db, "old"), await kept(db, "young")) == (0, 1)
