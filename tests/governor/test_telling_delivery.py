"""Messages about alerts arrive at least once: receivers that are away, refuse or are slow, kills, many messengers."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

from starlette.responses import Response

from services.governor import metrics
from services.governor.domain.routing import Channel, Route
from services.governor.store import messages
from services.governor.store.messages import Receiver
from services.kit.context import Context, system, use
from services.kit.health import Progress
from services.kit.ids import now, uuid7
from tests.governor.conftest import House
from tests.governor.receiving import (
    WEBHOOK,
    connect,
    due_now,
    look,
    looking_until,
    messenger,
    raised,
    resolved,
    routed,
    told,
    write,
)
from tests.kit.servers import Server, server

OK = Response(status_code=204)
ROUTE: dict[str, Any] = {"name": "on-call", "unit": "retail", "steps": [{"channels": [WEBHOOK]}], "group_s": 0}


async def test_a_receiver_that_is_away_gets_the_same_message_later(house: House, receiver: Server) -> None:
    answers = iter([Response(status_code=503), Response(status_code=302), OK, OK])
    receiver.answer = lambda _: next(answers)
    await routed(house)
    await house.hear(raised())
    telling = messenger(house)
    await look(telling, 1)
    (message,) = await told(house)
    assert (message["state"], message["attempts"], message["reason"]) == ("waiting", 1, "it answers with status 503")
    await house.hear(resolved())
    await looking_until(telling, house, "sent", 2)
    assert len(set(receiver.bodies[:3])) == 1 and len({said["webhook-id"] for said in receiver.headers[:3]}) == 1
    assert [body["status"] for body in receiver.asked] == ["firing", "firing", "firing", "resolved"]


async def test_a_message_that_failed_for_good_is_seen(house: House, receiver: Server) -> None:
    receiver.answer = lambda _: Response("with words of its own", 500)
    await routed(house)
    counted = metrics.MESSAGES.labels("webhook", "failed")
    before = counted._value.get()
    await house.hear(raised())
    (message,) = await looking_until(messenger(house), house, "failed")
    assert (message["attempts"], message["reason"]) == (3, "it answers with status 500")
    assert await told(house, state="failed") == [message]
    assert counted._value.get() == before + 1
    (fact,) = [row for row in await house.audit() if row.action == "alert.untold"]
    assert (fact.detail["message_id"], fact.detail["attempts"]) == (message["id"], 3)
    receiver.answer = lambda _: Response(status_code=422)
    await house.hear(raised("other"))
    failed = await looking_until(messenger(house), house, "failed", 2)
    assert failed[1]["attempts"] == 1, "what can never be taken is not tried again"


async def test_a_message_that_failed_is_tried_anew_when_a_person_says_so(house: House, receiver: Server) -> None:
    receiver.answer = lambda _: Response(status_code=410)
    await routed(house)
    for subject in ("slow", "again"):
        await house.hear(raised(subject=subject))
        await look(messenger(house))
    failed = {message["subject"]: message["id"] for message in await told(house, state="failed")}
    await house.hear(resolved(subject="slow"))
    await house.hear(resolved(subject="again"))
    await house.hear(raised(subject="again"))
    await look(house.governor.telling)
    receiver.answer = lambda _: OK
    async with house.client("engineer") as http:
        answer = await http.post(f"/v1/alert-messages/{failed['slow']}/again")
        assert (answer.status_code, answer.json()["state"], answer.json()["attempts"]) == (202, "waiting", 0)
        for id, status in ((failed["slow"], 409), (failed["again"], 409), (str(uuid4()), 404)):
            assert (await http.post(f"/v1/alert-messages/{id}/again")).status_code == status
    async with house.client("compliance", "*") as http:
        assert (await http.post(f"/v1/alert-messages/{failed['again']}/again")).status_code == 403
    async with house.client("engineer", "wealth") as http:
        assert (await http.post(f"/v1/alert-messages/{failed['again']}/again")).status_code == 404
    before = len(receiver.asked)
    await look(house.governor.telling)
    (body,) = receiver.asked[before:]
    assert (body["id"], body["status"]) == (failed["slow"], "resolved")
    assert "alert.tried-again" in {row.action for row in await house.audit()}


async def test_a_connection_that_is_taken_away_delays_and_one_that_moved_is_used(
    house: House, receiver: Server
) -> None:
    await routed(house)
    write(house)
    await house.hear(raised())
    telling = messenger(house)
    await look(telling, 1)
    (message,) = await told(house)
    assert message["state"] == "waiting" and "no server ops is approved" in message["reason"]
    async with server() as moved:
        moved.answer = lambda _: OK
        connect(house, moved.url)
        await looking_until(telling, house, "sent")
        assert len(moved.asked) == 1
    assert receiver.asked == []


async def test_what_a_kill_left_on_its_way_is_sent_again_with_the_same_id(house: House, receiver: Server) -> None:
    held = asyncio.Event()

    async def hold(_: Any) -> Response:
        await held.wait()
        return OK

    receiver.answer = hold
    await routed(house)
    await house.hear(raised())
    killed = asyncio.create_task(look(messenger(house)))
    while not receiver.asked:
        await asyncio.sleep(0.01)
    killed.cancel()
    receiver.answer = lambda _: OK
    await look(house.governor.telling)
    assert len(receiver.asked) == 1, "it is claimed"
    await due_now(house)
    await looking_until(house.governor.telling, house, "sent")
    held.set()
    assert len({said["webhook-id"] for said in receiver.headers}) == 1


async def test_what_is_ready_is_sent_though_something_before_it_fails(house: House, receiver: Server) -> None:
    receiver.answer = lambda _: Response(status_code=503)
    await routed(house)
    await house.hear(raised())
    telling = messenger(house)
    await look(telling, 1)
    receiver.answer = lambda _: OK
    await house.execute("UPDATE alert_route SET document = jsonb_set(document, '{group_s}', '1e300')")
    await house.hear(raised("another"))
    await due_now(house)
    with use(Context(system("governor"))):
        assert "OverflowError" in await telling.look()
        await telling.settle()
    assert [message["state"] for message in await told(house)] == ["sent"]
    await house.execute("UPDATE alert_route SET document = CAST(:said AS jsonb)", said=Route(**ROUTE).model_dump_json())
    await look(messenger(house))
    assert [message["state"] for message in await told(house)] == ["sent", "sent"], "nothing was lost"


async def test_what_always_fails_is_put_aside_and_holds_up_nobody(house: House, receiver: Server) -> None:
    await routed(house)
    await house.execute(
        "INSERT INTO alert_route (name, unit, document, changed_by, changed_at)"
        " VALUES ('bad', 'wealth', CAST(:said AS jsonb), 'x', now())",
        said=Route.model_validate(ROUTE | {"name": "bad", "unit": "wealth", "group_s": 1e300}).model_dump_json(),
    )  # no API takes it, and no message can be gathered for so long
    await house.hear(raised(subject="poison"), "wealth")
    await house.hear(raised())
    telling, progress = messenger(house), Progress()
    telling._progress = progress
    await look(telling)
    assert [body["subject"] for body in receiver.asked] == ["credit-live"]
    await house.hear(raised(subject="later"))
    with use(Context(system("governor"))):
        assert "OverflowError" in await telling.look(), "it is said as long as it lies aside"
        assert metrics.ASIDE._value.get() == 1
        telling._say()
        assert progress.problems() == {}, "and nobody is without a governor for it"
        await telling.settle()
    assert [body["subject"] for body in receiver.asked] == ["credit-live", "later"]


async def test_a_message_that_cannot_be_sent_at_all_fails_as_others_do(house: House, receiver: Server) -> None:
    connect(house, receiver.url, headers={"X-Key": "schlüssel"})
    await routed(house)
    await house.hear(raised())
    (failed,) = await looking_until(messenger(house, attempts=2), house, "failed")
    assert failed["attempts"] == 2 and "UnicodeEncodeError" in failed["reason"]
    connect(house, receiver.url)
    await house.hear(raised("another"))
    await looking_until(messenger(house), house, "sent")


async def test_receivers_that_are_away_do_not_take_every_turn(house: House, receiver: Server) -> None:
    unit, names = "retail", [f"/{number}" for number in range(9)]
    channels = sorted(
        (Channel(kind="webhook", connection="ops", path=path) for path in names), key=lambda c: c.key(unit)
    )
    start = now() - timedelta(minutes=1)
    with use(Context(system("governor"))):
        async with house.db.transaction() as tx:
            for subject in ("a", "b", "c"):
                for channel in channels[:8]:
                    await messages.begin(tx.session, Receiver.of(channel, unit, 0), uuid7(), unit, subject, start)
            for outgoing in await messages.claim(tx.session, now(), now() + timedelta(seconds=20), 8):
                await messages.put_off(tx.session, outgoing.id, now() + timedelta(seconds=1), "away")
            await messages.begin(tx.session, Receiver.of(channels[8], unit, 0), uuid7(), unit, "well", now())
            (first,) = await messages.claim(tx.session, now(), now() + timedelta(seconds=20), 1)
    assert first.subject == "well"


async def test_messengers_side_by_side_tell_each_alert_once(house: House, receiver: Server) -> None:
    await routed(house)
    await routed(house, {"channels": [WEBHOOK | {"path": "/b"}]}, name="b")
    for number in range(15):
        await house.hear(raised(subject=f"e{number}"))
    crew = [messenger(house) for _ in range(3)]
    while Counter(m["state"] for m in await told(house, limit=100)) != {"sent": 30}:
        await asyncio.gather(*(look(each) for each in crew))
    assert len(receiver.asked) == 30
    assert set(Counter((p, b["subject"]) for p, b in zip(receiver.paths, receiver.asked, strict=True)).values()) == {1}


async def test_a_slow_receiver_holds_up_nobody_else(house: House, receiver: Server) -> None:
    held = asyncio.Event()

    async def slow(said: Any) -> Response:
        if said["alerts"][0]["kind"] == "stuck":
            await held.wait()
        return OK

    receiver.answer = slow
    await routed(house, {"channels": [WEBHOOK | {"path": "/slow"}]}, name="slow", match={"kinds": ["stuck"]})
    await routed(house, match={"kinds": ["slow"]})
    for number in range(12):
        await house.hear(raised("stuck", subject=f"e{number}"))
    await house.hear(raised())
    running = asyncio.create_task(look(messenger(house)))
    try:
        async with asyncio.timeout(5):
            while "/alerts" not in receiver.paths:
                await asyncio.sleep(0.01)
    finally:
        held.set()
        await running
