"""The ledger on a real database: in order, whole, sealed, and honest about what is not."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from sqlalchemy.exc import DBAPIError

from contracts import AlertRaised, AlertResolved, AuditRecorded, AuditSealed
from fairlead import audit
from services.governor.app import compose
from services.governor.gateway import CheckpointFile
from services.governor.jobs import Bookkeeper
from services.governor.usecases import ledger
from services.governor.usecases.ledger import Unreadable, read_row
from services.kit.burial import Burial
from services.kit.context import Context, system, use
from services.kit.health import Progress
from services.kit.ids import now
from services.kit.stream import PartitionBatch, Record
from tests.governor.conftest import House


def row(number: int, service: str = "catalog", unit: str = "retail", **changes: Any) -> Record:
    facts: dict[str, Any] = {
        "service": service, "number": number, "action": "model.registered", "subject": "credit", "actor": "engineer",
        "unit": unit, "at": now(), "correlation_id": f"story-{number}", "event_id": None, "detail": {"number": number},
    }  # fmt: skip
    value = AuditRecorded(**facts | changes).to_json()
    return Record(number, 0, service.encode(), value, [("ce_source", f"/fairlead/{service}".encode())])


async def record(house: House, *rows: Record) -> None:
    batch = PartitionBatch("audit.recorded", 0, 0, len(rows), len(rows), rows)
    with use(Context(system("governor"))):
        async with house.db.transaction() as tx:
            await Bookkeeper(
                house.settings, house.governor.ledger, Burial(house.settings, "governor"), Progress()
            ).handle(tx, batch)


async def seal(house: House) -> AuditSealed | None:
    with use(Context(system("governor"))):
        return await house.governor.ledger.seal()


async def verdict(house: House) -> dict[str, Any]:
    with use(Context(system("governor"))):
        return await house.governor.ledger.verify()


async def offline(house: House) -> audit.Report:
    with use(Context(system("governor"))):
        exported = b"".join([chunk async for chunk in house.governor.ledger.export()])
    records = [orjson.loads(line) for line in exported.splitlines()]
    return audit.verify(records, audit.lines(house.settings.checkpoints), audit.keys_in(house.settings.keys / "public"))


async def attack(database: str, *statements: str) -> None:
    """As a superuser, past the trigger."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def filled(house: House, rows: int = 9) -> None:
    for first in range(1, rows + 1, 3):
        await record(house, *(row(number) for number in range(first, first + 3)))
        await seal(house)


async def test_rows_of_several_services_make_one_chain_in_number_order(house: House) -> None:
    await record(house, row(1), row(1, "deployer"), row(2), row(2, "deployer"), row(3))
    rows = await house.rows("SELECT position, service, number FROM ledger_record ORDER BY position")
    assert [r["position"] for r in rows] == [1, 2, 3, 4, 5]
    assert [r["number"] for r in rows if r["service"] == "catalog"] == [1, 2, 3]
    assert (await verdict(house))["ok"]
    await seal(house)
    assert (await offline(house)).ok


async def test_a_repeat_is_ignored(house: House) -> None:
    told = row(1)
    await record(house, told, told)
    await record(house, told, row(2))
    assert (await verdict(house))["records"] == 2
    assert await house.said() == []


async def test_rows_behind_a_gap_wait_for_it(house: House) -> None:
    await record(house, row(1), row(3), row(4))
    assert (await verdict(house))["records"] == 1
    await record(house, row(2))
    assert (await verdict(house)) == {**(await verdict(house)), "ok": True, "records": 4}
    assert await house.rows("SELECT 1 FROM ledger_waiting") == []


async def test_a_gap_that_lasts_is_told_once_and_when_it_closes(house: House) -> None:
    house.governor.ledger._gap_alert_s = 0.0
    await record(house, row(2), row(3))
    with use(Context(system("governor"))):
        await house.governor.ledger.tell_gaps()
        await house.governor.ledger.tell_gaps()
    (alert,) = await house.said(AlertRaised)
    assert isinstance(alert, AlertRaised)
    assert alert.title == "audit row 1 of catalog is missing"
    await record(house, row(1))
    with use(Context(system("governor"))):
        await house.governor.ledger.tell_gaps()
        await house.governor.ledger.tell_gaps()
    (over,) = await house.said(AlertResolved)
    assert isinstance(over, AlertResolved)
    assert over.alert_id == alert.alert_id
    assert (await verdict(house))["records"] == 3


async def test_a_second_fact_under_one_number_is_kept_and_told(house: House) -> None:
    await record(house, row(1), row(5))
    await record(house, row(1, actor="mallory"), row(5, actor="mallory"))
    await record(house, row(1, actor="mallory"))
    assert len(await house.said(AlertRaised)) == 3  # each contradiction once: two rows of mallory's own time stamps
    assert [r["actor"] for r in await house.rows("SELECT actor FROM ledger_record")] == ["engineer"]
    assert len(await house.rows("SELECT 1 FROM ledger_dispute")) == 3


async def test_many_writers_at_once_make_one_chain(house: House) -> None:
    services = ["catalog", "deployer", "scorer", "monitor", "governor", "retrainer", "recorder"]
    await asyncio.gather(*(record(house, *(row(n, service) for n in range(1, 21))) for service in services))
    assert (await verdict(house)) == {**(await verdict(house)), "ok": True, "records": 140}


@pytest.mark.parametrize("odd", [
    Record(0, 0, b"catalog", b"not json", []),
    Record(0, 0, b"catalog", b"{}", []),
    Record(0, 0, b"catalog", None, []),
    Record(0, 0, b"deployer", row(1).value, row(1).headers),
    Record(0, 0, b"catalog", row(1).value, [("ce_source", b"/fairlead/mallory")]),
    row(0),
])  # fmt: skip
def test_what_no_service_wrote_is_not_recorded(odd: Record) -> None:
    with pytest.raises(Unreadable):
        read_row(odd)


async def test_a_seal_is_signed_said_and_written_outside_the_database(house: House) -> None:
    await record(house, row(1), row(2))
    sealed = await seal(house)
    assert sealed
    assert sealed.position == 2
    (event,) = await house.said()
    assert event == sealed
    report = await offline(house)
    assert (report.ok, report.sealed_to, report.checkpoints) == (True, 2, 1)
    assert await seal(house) is None


async def test_a_seal_does_not_call_for_the_next(house: House) -> None:
    """The seal's own audit row must not keep the sealer busy for ever."""
    house.governor.ledger._seal_after_s = 0.0
    await record(house, row(1))
    with use(Context(system("governor"))):
        assert await house.governor.ledger.seal_when_due()
        await record(house, row(1, "governor", action="audit.sealed"))
        assert await house.governor.ledger.seal_when_due() is None
        await record(house, row(2))
        assert await house.governor.ledger.seal_when_due()


async def test_a_long_way_to_the_end_is_sealed_in_parts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_SEALED_AT_ONCE", 2)
    house.governor.ledger._seal_rows = 1
    await record(house, *(row(number) for number in range(1, 6)))
    with use(Context(system("governor"))):
        sealed = [await house.governor.ledger.seal_when_due() for _ in range(4)]
    assert [each.position if each else None for each in sealed] == [2, 4, 5, None]
    report = await offline(house)
    assert (report.ok, report.sealed_to, report.checkpoints) == (True, 5, 3)
    assert (await verdict(house))["sealed_to"] == 5


async def test_a_crash_between_file_and_database_loses_no_checkpoint(house: House, database: str) -> None:
    await record(house, row(1))
    await seal(house)
    await attack(database, "DELETE FROM governor.ledger_checkpoint", "UPDATE governor.ledger_head SET sealed = 0")
    with house.settings.checkpoints.open("ab") as file:
        file.write(b'{"torn": ')
    await record(house, row(2))
    await seal(house)
    report = await offline(house)
    assert (report.ok, report.sealed_to, report.checkpoints) == (True, 2, 2)
    assert (await verdict(house))["ok"]


async def test_the_database_refuses_to_change_a_record_by_accident(house: House) -> None:
    await filled(house)
    for statement in ("UPDATE ledger_record SET actor = 'x'", "DELETE FROM ledger_record"):
        with pytest.raises(DBAPIError, match="append only"):
            await house.rows(statement)


_EDIT = """UPDATE governor.ledger_record SET
    content = convert_to(replace(convert_from(content, 'utf8'), 'engineer', 'nobody'), 'utf8') WHERE position = 5"""


@pytest.mark.parametrize(
    ("statements", "first"),
    [
        ((_EDIT,), 5),
        (("DELETE FROM governor.ledger_record WHERE position = 5",), 5),
        (("DELETE FROM governor.ledger_record WHERE position > 7",), 8),
        (
            (
                "DELETE FROM governor.ledger_record WHERE position > 7",
                "DELETE FROM governor.ledger_checkpoint WHERE position > 6",
                "UPDATE governor.ledger_head SET sealed = 6, position = 7, "
                "hash = (SELECT hash FROM governor.ledger_record WHERE position = 7)",
            ),
            8,
        ),
    ],
    ids=["edit", "delete", "cut", "old copy"],
)
async def test_an_attack_as_superuser_is_found_online_and_offline(
    house: House, database: str, statements: tuple[str, ...], first: int
) -> None:
    await filled(house)
    assert (await verdict(house))["ok"]
    await attack(database, *statements)
    found = await verdict(house)
    assert found["first_bad"]["position"] == first
    report = await offline(house)
    assert report.first
    assert report.first.position == first


@pytest.mark.parametrize("edit", [
    "unit = 'wealth'", "actor = 'nobody'", "subject = 'other'", "action = 'x'", "correlation_id = 'other'",
    "at = at + interval '1 s'", "service = 'deployer', number = 1",
])  # fmt: skip
async def test_a_copied_column_that_was_edited_is_found(house: House, database: str, edit: str) -> None:
    await filled(house)
    await attack(database, f"UPDATE governor.ledger_record SET {edit} WHERE position = 5")
    found = await verdict(house)
    assert found["first_bad"]["position"] == 5
    assert "column" in found["first_bad"]["reason"]


_CUT = "DELETE FROM governor.ledger_record WHERE position > 9"
_HEAD = """UPDATE governor.ledger_head SET position = 9,
    hash = (SELECT hash FROM governor.ledger_record WHERE position = 9)"""


@pytest.mark.parametrize(
    ("statements", "told"),
    [((_CUT,), "unsealed records were cut"), ((_CUT, _HEAD), "numbers 10 to 12 were cut"),
     (("UPDATE governor.ledger_head SET sealed = 99",), "marked as sealed"),
     (("UPDATE governor.ledger_checkpoint SET head = 'sha256:' || repeat('0', 64) WHERE position = 9",), "forged")],
    ids=["rows", "rows and head", "seal mark", "checkpoint column"],
)  # fmt: skip
async def test_a_cut_of_the_unsealed_tail_is_found_where_anything_still_tells(
    house: House, database: str, statements: tuple[str, ...], told: str
) -> None:
    await filled(house)
    await record(house, *(row(number) for number in range(10, 13)))
    await attack(database, *statements)
    assert told in (await verdict(house))["first_bad"]["reason"]


async def test_a_verification_says_up_to_where_it_proves(house: House) -> None:
    assert "empty" in (await verdict(house))["says"]
    await filled(house)
    assert "records 1 to 9 are as they were sealed" in (await verdict(house))["says"]
    await record(house, row(10))
    found = await verdict(house)
    assert (found["sealed_to"], found["records"]) == (9, 10)
    assert "the 1 after them are chained" in found["says"]


@pytest.mark.parametrize(
    "odd", [b"not json\n", b"[]\n", b'{"position": 99, "head": "x"}\n', b'{"position": 0, "head": "x"}\n']
)
async def test_an_odd_line_in_the_checkpoint_file_is_a_forgery_and_breaks_nothing(house: House, odd: bytes) -> None:
    await filled(house)
    with house.settings.checkpoints.open("ab") as file:
        file.write(odd)
    assert "forged" in (await verdict(house))["first_bad"]["reason"]
    await record(house, row(10))
    assert await seal(house)
    with use(Context(system("governor"))):
        await house.governor.ledger._compare_with_file()


def test_the_checkpoint_file_is_read_from_both_ends(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "deep" / "checkpoints.jsonl")
    assert (file.last(), file.after(0), list(file.lines()), list(file.chunks())) == (None, [], [], [])
    told = [{"position": n, "leaves": ["a" * 64] * 300} for n in range(1, 41)]
    file.append(told[:39])
    with file.path.open("ab") as torn:
        torn.write(b'{"torn": ' + b"x" * 200_000)
    assert file.last() == told[38]
    file.append(told[39:])
    assert list(file.lines()) == told
    assert file.after(35) == told[35:]
    assert b"".join(file.chunks()) == file.path.read_bytes()
    assert max(map(len, file.chunks())) <= 64 * 1024


async def test_an_export_takes_a_bounded_number_of_records_at_a_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_CHUNK", 2)
    await filled(house)
    with use(Context(system("governor"))):
        chunks = [chunk async for chunk in house.governor.ledger.export()]
    assert [chunk.count(b"\n") for chunk in chunks] == [2, 2, 2, 2, 1]
    assert (await verdict(house))["ok"]


async def test_an_alarm_about_the_file_ends_when_file_and_database_agree(house: House) -> None:
    await filled(house)
    Path(house.settings.checkpoints).unlink()
    with use(Context(system("governor"))):
        await house.governor.ledger._compare_with_file()
        (alert,) = await house.said(AlertRaised)
        await house.hear(alert, unit="*")
        await house.governor.ledger._compare_with_file()
    (over,) = await house.said(AlertResolved)
    assert isinstance(over, AlertResolved)


async def test_a_rewritten_chain_is_found_and_the_record_named_offline(house: House, database: str) -> None:
    from services.governor.domain import chain

    await filled(house)
    await attack(database, _EDIT, "UPDATE governor.ledger_record SET actor = 'nobody' WHERE position = 5")
    contents = await house.rows("SELECT position, content FROM ledger_record ORDER BY position")
    links = chain.extend(0, chain.GENESIS, [r["content"] for r in contents])
    await attack(
        database,
        *(f"UPDATE governor.ledger_record SET hash = '{x.hash}' WHERE position = {x.position}" for x in links),
        f"UPDATE governor.ledger_checkpoint SET head = '{links[-1].hash}' WHERE position = 9",
    )
    assert (await verdict(house))["first_bad"]["position"] == 4
    report = await offline(house)
    assert report.first
    assert (report.first.position, report.first.kind) == (5, "altered")


async def test_a_start_after_the_database_was_set_back_raises_an_alarm(house: House, database: str) -> None:
    await filled(house)
    await attack(database, "DELETE FROM governor.ledger_record WHERE position > 3",
                 "DELETE FROM governor.ledger_checkpoint WHERE position > 3")  # fmt: skip
    with use(Context(system("governor"))):
        await compose(house.settings, house.db).ledger._compare_with_file()
    (alert,) = await house.said(AlertRaised)
    assert isinstance(alert, AlertRaised)
    assert (alert.kind, alert.severity) == ("ledger-set-back", "critical")


async def test_a_lost_checkpoint_file_is_told_and_written_again(house: House) -> None:
    await filled(house)
    before = house.settings.checkpoints.read_bytes()
    Path(house.settings.checkpoints).unlink()
    with use(Context(system("governor"))):
        await house.governor.ledger._compare_with_file()
        await house.governor.ledger._compare_with_file()
    assert len(await house.said(AlertRaised)) == 1
    assert [orjson.loads(line) for line in house.settings.checkpoints.read_bytes().splitlines()] == [
        orjson.loads(line) for line in before.splitlines()
    ]
    assert (await offline(house)).ok


async def test_sealing_goes_on_where_telling_of_gaps_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    house.governor.ledger._seal_after_s = 0.0
    monkeypatch.setattr(house.governor.ledger, "tell_gaps", broken)
    await record(house, row(1))
    with pytest.raises(ZeroDivisionError):
        await house.governor.ledger.watch()
    assert house.settings.checkpoints.exists()


async def test_the_watch_seals_by_itself(house: House) -> None:
    house.governor.ledger._seal_after_s = 0.0
    job = asyncio.create_task(house.governor.ledger.watch())
    try:
        await record(house, row(1))
        async with asyncio.timeout(8):
            while not house.settings.checkpoints.exists():
                await asyncio.sleep(0.05)
    finally:
        job.cancel()
