"""One use case, one transaction: effect, audit and outbox together; no number is missing; units stay apart."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from contracts import ModelRetired, Service
from services.kit.context import Caller, Claim, Context, system, use
from services.kit.db import AlreadyHandled, Database, Repeated
from services.kit.errors import TooLarge

ServiceDb = Callable[[Service], Database]

RETAIL = Caller("engineer", "person", frozenset({"engineer"}), frozenset({"retail"}))
WEALTH = Caller("other", "person", frozenset({"engineer"}), frozenset({"wealth"}))
ALL = Caller("admin", "person", frozenset({"admin"}), frozenset({"*"}))


def retired(version: int = 1) -> ModelRetired:
    return ModelRetired(model="credit", version=version, retired_by="engineer", reason="old")


async def rows(db: Database, sql: str) -> list[tuple[Any, ...]]:
    async with db.chassis() as session:
        return [tuple(row) for row in await session.execute(text(sql))]


async def test_a_fact_and_its_audit_row_commit_together(service_db: ServiceDb) -> None:
    db = service_db("catalog")
    with use(Context(RETAIL)):
        async with db.transaction() as tx:
            tx.emit(retired())
            tx.record("model.looked_at", "credit", reason="why not")
    written = await rows(db, "SELECT number, audit, topic FROM outbox ORDER BY number")
    assert written == [(1, None, "model.retired"), (2, 1, "audit.recorded"), (3, 2, "audit.recorded")]


async def test_a_use_case_that_fails_leaves_nothing(service_db: ServiceDb) -> None:
    db = service_db("catalog")
    with use(Context(RETAIL)), pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            tx.emit(retired())
            raise ZeroDivisionError
    assert await rows(db, "SELECT * FROM outbox") == []
    assert await rows(db, "SELECT outbox, audit FROM counter") == [(0, 0)]


async def test_an_event_too_large_to_travel_is_refused_with_all_that_belongs_to_it(service_db: ServiceDb) -> None:
    """Kafka would refuse it for ever, and the relay with it all that was said afterwards."""
    db = service_db("catalog")
    with use(Context(RETAIL)), pytest.raises(TooLarge, match=r"model\.retired of credit has \d+ bytes"):
        async with db.transaction() as tx:
            tx.emit(retired(1))
            tx.emit(retired(2).model_copy(update={"reason": "é" * 450_000}))
    assert await rows(db, "SELECT * FROM outbox") == []
    with use(Context(RETAIL)):
        async with db.transaction() as tx:
            tx.emit(retired(2).model_copy(update={"reason": "x" * 890_000}))
    assert await rows(db, "SELECT number FROM outbox WHERE topic = 'model.retired'") == [(1,)]


async def test_numbers_have_no_gaps_though_transactions_race_and_fail(service_db: ServiceDb) -> None:
    db = service_db("catalog")

    async def one(number: int) -> None:
        with use(Context(RETAIL)):
            async with db.transaction() as tx:
                tx.emit(retired(number))
                await asyncio.sleep(0)
                if number % 3 == 0:
                    raise ZeroDivisionError

    await asyncio.gather(*(one(n) for n in range(1, 61)), return_exceptions=True)
    numbers = [n for (n,) in await rows(db, "SELECT number FROM outbox ORDER BY number")]
    audits = [n for (n,) in await rows(db, "SELECT audit FROM outbox WHERE audit IS NOT NULL ORDER BY audit")]
    assert numbers == list(range(1, 81))
    assert audits == list(range(1, 41))


async def test_a_transaction_that_commits_later_never_gets_an_earlier_number(service_db: ServiceDb) -> None:
    """A relay that reads by number would lose it (an identity column gives numbers in order of insertion)."""
    db = service_db("catalog")
    with use(Context(RETAIL)):
        async with db.transaction() as slow:
            slow.emit(retired(1))
            async with db.transaction() as fast:
                fast.emit(retired(2))
            assert [n for (n,) in await rows(db, "SELECT number FROM outbox")] == [1, 2]
    events = await rows(db, "SELECT value::json->>'version' FROM outbox WHERE audit IS NULL ORDER BY number")
    assert events == [("2",), ("1",)]


async def test_an_event_that_was_handled_has_no_second_effect(service_db: ServiceDb) -> None:
    db = service_db("catalog")
    for expected in (None, AlreadyHandled):
        with use(Context(system("catalog", "retail"), claim=Claim("/fairlead/x 1"))):
            if expected is None:
                async with db.transaction() as tx:
                    tx.emit(retired())
            else:
                with pytest.raises(expected):
                    async with db.transaction() as tx:
                        tx.emit(retired())
    assert len(await rows(db, "SELECT * FROM outbox WHERE audit IS NULL")) == 1


async def test_a_handler_that_failed_may_handle_the_event_again(service_db: ServiceDb) -> None:
    db = service_db("catalog")
    with use(Context(system("catalog"), claim=Claim("/fairlead/x 2"))) as context:
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                raise ZeroDivisionError
        assert context.claim is not None
        assert not context.claim.taken
        async with db.transaction() as tx:
            tx.emit(retired())


async def test_a_handler_has_one_transaction(service_db: ServiceDb) -> None:
    db = service_db("catalog")
    with use(Context(system("catalog"), claim=Claim("/fairlead/x 3"))):
        async with db.transaction():
            pass
        for _ in range(2):  # a failed second one does not give the claim back: it is spent
            with pytest.raises(RuntimeError, match="one transaction"):
                async with db.transaction():
                    pass


async def test_a_key_its_effect_and_its_answer_are_there_together(service_db: ServiceDb) -> None:
    """A process that ends after the use case and before the answer leaves neither: the request is simply sent again."""
    db, told = service_db("catalog"), list[str]()
    db.committed.append(lambda: told.append("outbox"))
    async with db.once("engineer\nkey", lambda: "d") as once:
        with use(Context(RETAIL, claim=once)):
            async with db.transaction() as tx:
                tx.emit(retired())
                tx.then.append(lambda: told.append("then"))
            async with db.reading() as session:
                assert (await session.execute(text("SELECT count(*) FROM idempotency"))).scalar() == 1
            with pytest.raises(RuntimeError, match="one transaction"):
                async with db.transaction():
                    pass
        assert await rows(db, "SELECT * FROM outbox") == [] == await rows(db, "SELECT * FROM idempotency")
        assert told == []
        await once.keep(202, {}, b"done")
    assert await rows(db, "SELECT digest, status, body FROM idempotency") == [("d", 202, b"done")]
    assert len(await rows(db, "SELECT * FROM outbox WHERE audit IS NULL")) == 1
    assert told == ["outbox", "then"]


async def test_a_request_that_fails_after_its_use_case_may_be_sent_again(service_db: ServiceDb) -> None:
    db = service_db("catalog")
    for attempt in (1, 2):
        with suppress(asyncio.CancelledError):
            async with db.once("engineer\nkey", lambda: "d") as once:
                with use(Context(RETAIL, claim=once)):
                    async with db.transaction() as tx:
                        tx.emit(retired(attempt))
                if attempt == 1:
                    raise asyncio.CancelledError
                await once.keep(200, {}, b"")
    events = await rows(db, "SELECT value::json->>'version', number FROM outbox WHERE audit IS NULL")
    assert events == [("2", 1)]


async def test_a_key_that_was_used_stops_the_second_writer(service_db: ServiceDb) -> None:
    db = service_db("catalog")

    async def write() -> None:
        async with db.once("engineer k", lambda: "d") as once:
            with use(Context(RETAIL, claim=once)):
                async with db.transaction() as tx:
                    tx.emit(retired())

    outcomes = await asyncio.gather(*(write() for _ in range(8)), return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Repeated) for outcome in outcomes) == 7


async def test_a_caller_sees_the_rows_of_its_own_units_only(service_db: ServiceDb) -> None:
    db = service_db("deployer")
    for unit in ("retail", "wealth"):
        with use(Context(ALL)):
            async with db.transaction() as tx:
                insert = "INSERT INTO use_case (use_case, unit, protected) VALUES (:name, :unit, '[]')"
                await tx.session.execute(text(insert), {"name": f"{unit}-case", "unit": unit})
    for caller, expected in (
        (RETAIL, ["retail-case"]),
        (WEALTH, ["wealth-case"]),
        (ALL, ["retail-case", "wealth-case"]),
    ):
        with use(Context(caller)):
            async with db.reading() as session:
                found = await session.execute(text("SELECT use_case FROM use_case ORDER BY use_case"))
                assert list(found.scalars()) == expected


async def test_a_caller_cannot_write_into_another_unit(service_db: ServiceDb) -> None:
    db = service_db("deployer")
    with use(Context(WEALTH)), pytest.raises(ProgrammingError, match="row-level security"):
        async with db.transaction() as tx:
            await tx.session.execute(
                text("INSERT INTO use_case (use_case, unit, protected) VALUES ('x', 'retail', '[]')")
            )


async def test_a_pooled_connection_forgets_the_last_callers_units(service_db: ServiceDb) -> None:
    db = service_db("deployer")
    with use(Context(ALL)):
        async with db.transaction() as tx:
            await tx.session.execute(
                text("INSERT INTO use_case (use_case, unit, protected) VALUES ('x', 'retail', '[]')")
            )
        with pytest.raises(ZeroDivisionError):
            async with db.transaction():
                raise ZeroDivisionError
    async with db.chassis() as session:  # says nothing of units: sees nothing
        assert (await session.execute(text("SELECT count(*) FROM use_case"))).scalar() == 0


async def test_a_service_reads_no_other_services_schema(service_db: ServiceDb) -> None:
    db = service_db("deployer")
    with use(Context(ALL)), pytest.raises(ProgrammingError, match="permission denied"):
        async with db.reading() as session:
            await session.execute(text("SELECT * FROM governor.outbox"))


async def test_what_is_said_within_a_story_belongs_to_it_and_what_follows_does_not(service_db: ServiceDb) -> None:
    db = service_db("catalog")
    with use(Context(RETAIL, "the call")):
        async with db.transaction() as tx:
            with tx.story("the case"):
                tx.emit(retired())
            with tx.story(""):
                tx.record("model.looked_at", "credit")
    told = [
        dict(headers)["ce_correlationid"] for (headers,) in await rows(db, "SELECT headers FROM outbox ORDER BY number")
    ]
    assert told == ["the case", "the case", "the call"]
