"""Alertmanager and mail: what they are told, again and at the end, over real servers of their kinds."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.responses import Response

from services.governor.gateway import channels as ways
from tests.governor.conftest import House
from tests.governor.mailbox import Mailbox, mailbox
from tests.governor.receiving import (
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

OK = Response(status_code=200)
ALERTMANAGER = {"channels": [{"kind": "alertmanager", "connection": "ops"}]}


@pytest.fixture
async def alertmanager(house: House) -> AsyncGenerator[Server]:
    async with server() as running:
        running.answer = lambda _: OK
        connect(house, running.url, signing=None, headers={"Authorization": "Bearer of-alertmanager"})
        yield running


@pytest.fixture
async def box(house: House) -> AsyncGenerator[Mailbox]:
    async with mailbox() as running:
        write(house, mail(running))
        yield running


def mail(box: Mailbox, **more: Any) -> dict[str, Any]:
    return {
        "name": "mail", "kind": "smtp", "url": f"smtp://127.0.0.1:{box.port}", "sender": "fairlead@bank.example",
        "recipients": ["*@bank.example", "duty@partner.example"], **more,
    }  # fmt: skip


def to(*addresses: str) -> dict[str, Any]:
    return {"channels": [{"kind": "email", "connection": "mail", "to": list(addresses)}]}


async def test_alertmanager_is_told_of_what_fires_by_its_own_api(house: House, alertmanager: Server) -> None:
    await house.in_business()
    await routed(house, ALERTMANAGER)
    await house.hear(raised())
    await look(house.governor.telling)
    ((posted,),) = alertmanager.asked
    assert alertmanager.paths == ["/api/v2/alerts"]
    assert alertmanager.headers[0]["authorization"] == "Bearer of-alertmanager"
    assert posted["labels"] == {
        "alertname": "slow", "severity": "warning", "subject": "credit-live", "endpoint": "credit-live",
        "use_case": "lending", "unit": "retail", "platform": "fairlead",
    }  # fmt: skip
    assert posted["annotations"]["summary"] == "It answers slowly"
    assert posted["annotations"]["what_to_do"] == "Look at its hosts"
    assert posted["generatorURL"].endswith("/endpoints/credit-live")
    assert datetime.fromisoformat(posted["startsAt"]).tzinfo and "endsAt" not in posted


async def test_alertmanager_is_told_again_while_it_fires_and_once_when_it_is_over(
    house: House, alertmanager: Server
) -> None:
    await routed(house, ALERTMANAGER)
    await house.hear(raised())
    await house.hear(raised("drift-of-labels"))
    await look(house.governor.telling)
    first = len(alertmanager.asked)
    for _ in range(3):
        await look(house.governor.telling)
    assert len(alertmanager.asked) == first, "its time has not come"
    await due_now(house)
    await look(house.governor.telling)
    assert {alert["labels"]["alertname"] for alert in alertmanager.asked[first]} == {"slow", "drift-of-labels"}
    await house.hear(resolved())
    await look(house.governor.telling)
    (over,) = alertmanager.asked[first + 1]
    assert (over["labels"]["alertname"], over["startsAt"] < over["endsAt"]) == ("slow", True)
    assert over["labels"] == next(a["labels"] for a in alertmanager.asked[first] if a["labels"]["alertname"] == "slow")
    await due_now(house)
    await look(house.governor.telling)
    assert [alert["labels"]["alertname"] for alert in alertmanager.asked[first + 2]] == ["drift-of-labels"]
    await house.hear(resolved("drift-of-labels"))
    await look(house.governor.telling)
    for _ in range(2):
        await due_now(house)
        await look(house.governor.telling)
    assert len(alertmanager.asked) == first + 4
    assert await house.rows("SELECT 1 FROM alert_message WHERE beats") == []
    assert len(await told(house)) == first + 2, "what is said again is no message of its own"


async def test_an_alertmanager_that_is_away_is_told_again_when_it_is_back(house: House, alertmanager: Server) -> None:
    await routed(house, ALERTMANAGER)
    await house.hear(raised())
    await look(house.governor.telling)
    alertmanager.answer = lambda _: Response(status_code=422)
    for _ in range(4):
        await due_now(house)
        await look(messenger(house))
    alertmanager.answer = lambda _: OK
    await due_now(house)
    await look(messenger(house))
    assert len(alertmanager.asked) == 6
    assert {m["state"] for m in await told(house)} == {"sent"}


async def test_a_letter_says_all_that_a_person_needs(house: House, box: Mailbox) -> None:
    await routed(house, to("ops@bank.example", "duty@partner.example"))
    detail = "p99 ist 480 ms, zugesagt sind 200 ms – über das Doppelte"
    await house.hear(raised(title="It answers\r\nBcc: eve@evil.example", detail=detail))
    await look(house.governor.telling)
    (letter,) = box.letters
    assert letter["Subject"] == "[warning] credit-live: It answers Bcc: eve@evil.example"
    assert box.recipients == [["ops@bank.example", "duty@partner.example"]]
    assert (letter["From"], letter["To"]) == ("fairlead@bank.example", "ops@bank.example, duty@partner.example")
    said = letter.get_content()
    assert f"How much: {detail}" in said
    assert "What to do: Look at its hosts" in said and "Look here: http" in said
    (message,) = await told(house)
    assert message["state"] == "sent" and letter["Message-ID"] == f"<{message['id']}@bank.example>"
    await house.hear(resolved())
    await look(house.governor.telling)
    assert box.letters[1]["Subject"].startswith("[resolved] credit-live")
    assert "it is quick again" in box.letters[1].get_content()


async def test_an_encoded_word_in_a_title_begins_no_header(house: House, box: Mailbox) -> None:
    await routed(house, to("ops@bank.example"))
    await house.hear(raised(title="=?utf-8?q?=0d=0aReply-To:_eve=40evil.example?="))
    await look(house.governor.telling)
    (letter,) = box.letters
    assert letter["Reply-To"] is None
    assert "Reply-To:_eve" in letter["Subject"], "it is read as it was written"


async def test_a_mail_server_that_is_busy_is_tried_again_and_one_that_refuses_is_not(
    house: House, box: Mailbox
) -> None:
    await routed(house, to("ops@bank.example"))
    box.refuses = {"DATA": 451}
    await house.hear(raised())
    await look(messenger(house), 1)
    (message,) = await told(house)
    assert (message["state"], message["reason"]) == ("waiting", "the mail server answers with status 451")
    box.refuses = {}
    await looking_until(messenger(house), house, "sent")
    box.refuses = {"ops@bank.example": 550}
    await house.hear(raised("other"))
    (failed,) = await looking_until(messenger(house), house, "failed")
    assert (failed["attempts"], failed["reason"]) == (1, "no recipient is taken (status 550)")
    assert len(box.letters) == 1


async def test_a_recipient_who_is_not_taken_is_seen_though_the_others_have_it(house: House, box: Mailbox) -> None:
    box.refuses = {"gone@bank.example": 550}
    await routed(house, to("ops@bank.example", "gone@bank.example"))
    await house.hear(raised())
    await look(house.governor.telling)
    (message,) = await told(house)
    assert (message["state"], message["reason"]) == ("sent", "not taken for gone@bank.example (status 550)")
    assert box.recipients == [["ops@bank.example"]]


async def test_a_silent_mail_server_stops_nobody(house: House, box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "WITHIN_S", 0.3)
    box.silent = True
    async with server() as receiver:
        receiver.answer = lambda _: OK
        ops = {"name": "ops", "kind": "https", "url": receiver.url, "signing": "secret"}
        write(house, mail(box, timeout_s=1), ops)
        await routed(house, to("ops@bank.example"))
        await routed(house, {"channels": [{"kind": "webhook", "connection": "ops"}]}, name="hook")
        await house.hear(raised())
        looking = asyncio.create_task(look(messenger(house), 1))
        async with asyncio.timeout(0.3):
            while not receiver.asked:
                await asyncio.sleep(0.005)
        await house.hear(raised("another"))
        await looking
    assert {m["reason"] for m in await told(house, state="waiting") if m["attempts"]} == {"no answer within 0.3 s"}


async def test_a_mail_server_that_is_silent_for_many_holds_up_no_other_server(
    house: House, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "WITHIN_S", 1.0)
    box.silent = True
    async with mailbox() as sound:
        write(house, mail(box, timeout_s=3), mail(sound) | {"name": "sound"})
        await routed(house, to("ops@bank.example"), name="first")
        for number in range(6):
            await routed(house, to(f"duty-{number}@bank.example"), name=f"route-{number}")
        telling = messenger(house)
        await house.hear(raised())
        stuck = asyncio.create_task(look(telling, 1))
        await asyncio.sleep(0.3)
        route = {"channels": [{"kind": "email", "connection": "sound", "to": ["ops@bank.example"]}]}
        await routed(house, route, name="sound", match={"kinds": ["well"]})
        await house.hear(raised("well", subject="another"))
        await look(telling, 1)
        await stuck
        assert len(sound.letters) == 1


async def test_mail_goes_under_tls_with_a_login(house: House, tmp_path: Path) -> None:
    trust = authority(tmp_path)
    async with mailbox(trust) as box:
        (tmp_path / "password").write_text("secret\n")
        entry = mail(
            box, url=f"smtps://127.0.0.1:{box.port}", ca=str(tmp_path / "ca.pem"), username="fairlead",
            password={"file": str(tmp_path / "password")},
        )  # fmt: skip
        write(house, entry)
        await routed(house, to("ops@bank.example"))
        await house.hear(raised())
        await look(house.governor.telling)
        assert (len(box.letters), box.logins) == (1, ["fairlead:secret"])
        write(house, entry | {"ca": None})
        await house.hear(raised("another"))
        await look(messenger(house), 1)
        assert len(box.letters) == 1, "nobody vouches for it"


async def test_mail_goes_under_starttls_before_anything_is_told(house: House, tmp_path: Path) -> None:
    trust = authority(tmp_path)
    (tmp_path / "password").write_text("secret")
    own = {"ca": str(tmp_path / "ca.pem"), "username": "fairlead", "password": {"file": str(tmp_path / "password")}}
    async with mailbox(starttls=trust) as box:
        write(house, mail(box, **own))
        await routed(house, to("ops@bank.example"))
        await house.hear(raised())
        await look(house.governor.telling)
        assert (len(box.letters), box.logins) == (1, ["fairlead:secret"])
        stranger = authority(tmp_path / "of-another", "another")
        box.starttls = stranger
        await house.hear(raised("another"))
        await look(messenger(house), 1)
        assert len(box.letters) == 1, "somebody answers in its place"
        (message,) = await told(house, state="waiting")
        assert message["reason"] == "it cannot be reached (SSLCertVerificationError)"
    async with mailbox() as box:
        write(house, mail(box, **own))
        await due_now(house)
        await look(messenger(house), 1)
        assert (box.letters, box.logins) == ([], []), "a server without TLS is told nothing, no password above all"


@pytest.mark.parametrize(("channel", "field"), [
    ({"kind": "email", "connection": "mail", "to": []}, "to"),
    ({"kind": "email", "connection": "mail"}, "to"),
    ({"kind": "email", "connection": "mail", "to": ["ops@bank.example"], "path": "/x"}, "path"),
    ({"kind": "email", "connection": "mail", "to": ["ops@bank.example", "eve@evil.example"]}, "to.1"),
    ({"kind": "email", "connection": "mail", "to": ["other@partner.example"]}, "to.0"),
    ({"kind": "email", "connection": "mail", "to": ["ops"]}, "to.0"),
    ({"kind": "email", "connection": "mail", "to": ["ops@bank.example\r\nBcc: eve@evil.example"]}, "to.0"),
    ({"kind": "email", "connection": "mail", "to": ["a@bank.example,b@evil.example"]}, "to.0"),
    ({"kind": "email", "connection": "mail", "to": ["=?utf-8?q?eve=40evil.example=2c_a?=@bank.example"]}, "to.0"),
    ({"kind": "email", "connection": "mail", "to": ["=?utf-8?q?=0d=0aX=3a?=@bank.example"]}, "to.0"),
    ({"kind": "email", "connection": "ops", "to": ["ops@bank.example"]}, "connection"),
    ({"kind": "alertmanager", "connection": "mail"}, "connection"),
    ({"kind": "webhook", "connection": "ops", "to": ["ops@bank.example"]}, "to"),
])  # fmt: skip
async def test_a_channel_that_leads_nowhere_is_refused_by_its_field(
    house: House, box: Mailbox, channel: dict[str, Any], field: str
) -> None:
    write(house, mail(box), {"name": "ops", "kind": "https", "url": "http://127.0.0.1:9", "signing": "s"})
    async with house.client("engineer") as http:
        answer = await http.put("/v1/alert-routes/on-call", json={"steps": [{"channels": [channel]}]})
    assert (answer.status_code, answer.json().get("field")) == (422, f"steps.0.channels.0.{field}"), answer.text


def authority(folder: Path, common: str = "mail") -> ssl.SSLContext:
    """A certificate for this machine, and `ca.pem`, by which it is believed."""
    folder.mkdir(exist_ok=True)
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(private)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return trust
