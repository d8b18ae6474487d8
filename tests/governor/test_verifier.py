"""The offline verifier against an attacker with every right on the database."""

import base64
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead import audit
from services.governor.domain import chain
from services.kit.signing import canonical, key_id

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_NAME = key_id("governor", _KEY.public_key())
KEYS = {_NAME: _KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)}


@dataclass
class Books:
    """A ledger and its checkpoints, as they are exported."""

    records: list[dict[str, Any]]
    checkpoints: list[dict[str, Any]]

    def report(self, keys: dict[str, bytes] = KEYS) -> audit.Report:
        return audit.verify(self.records, self.checkpoints, keys)


def content(service: str, number: int, action: str = "x", **detail: int) -> bytes:
    return canonical({
        "service": service, "number": number, "action": action, "subject": "credit", "actor": "engineer",
        "unit": "retail", "at": "2026-03-01T12:00:00Z", "correlation_id": "story", "event_id": None,
        "detail": detail or {"n": number},
    })  # fmt: skip


def exported(contents: list[bytes]) -> list[dict[str, Any]]:
    links = chain.extend(0, chain.GENESIS, contents)
    return [{"position": x.position, "hash": x.hash, "record": x.content.decode()} for x in links]


def sealed(records: list[dict[str, Any]], start: int, end: int, key: Ed25519PrivateKey = _KEY) -> dict[str, Any]:
    told = {
        "ledger": "fairlead",
        "position": end,
        "head": records[end - 1]["hash"],
        "sealed_at": "2026-03-01T12:00:00Z",
    }
    value = base64.b64encode(key.sign(canonical(told))).decode()
    leaves = [chain.leaf(r["record"].encode()) for r in records[start:end]]
    return told | {"signature": {"key_id": _NAME, "value": value}, "from": start, "leaves": leaves}


def books(rows: int = 12, every: int = 5, leaves: bool = True) -> Books:
    contents = [
        content("catalog" if i % 3 else "deployer", i // 3 + 1 if i % 3 == 0 else i - i // 3) for i in range(rows)
    ]
    records = exported(contents)
    ends = sorted({*range(every, rows, every), rows})
    checkpoints = [sealed(records, start, end) for start, end in zip([0, *ends], ends, strict=False)]
    if not leaves:
        checkpoints = [{k: v for k, v in c.items() if k not in ("from", "leaves")} for c in checkpoints]
    return Books(records, checkpoints)


def rehashed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The attacker computes a chain that fits again."""
    return exported([r["record"].encode() for r in records])


books_before = books()


def first(report: audit.Report) -> tuple[int, str]:
    assert report.first
    return report.first.position, report.first.kind


def test_an_untouched_ledger_verifies() -> None:
    report = books().report()
    assert report.ok
    assert (report.records, report.checkpoints, report.sealed_to) == (12, 3, 12)
    assert books(leaves=False).report().ok
    assert audit.verify([], [], KEYS).ok


places = st.integers(0, 11)


@settings(max_examples=60)
@given(places, st.booleans())
def test_an_edited_record_is_named(place: int, rewrite: bool) -> None:
    held = books()
    held.records[place]["record"] = held.records[place]["record"].replace('"action":"x"', '"action":"y"')
    if rewrite:
        held.records = rehashed(held.records)
    assert first(held.report()) == (place + 1, "altered")


@settings(max_examples=60)
@given(places, st.booleans())
def test_a_deleted_record_is_named(place: int, rewrite: bool) -> None:
    held = books()
    del held.records[place]
    if rewrite:
        held.records = rehashed(held.records)
    position, kind = first(held.report())
    assert position == place + 1
    assert kind in ("dropped", "cut")


@settings(max_examples=60)
@given(places, places, st.booleans())
def test_swapped_records_are_named(one: int, other: int, rewrite: bool) -> None:
    held = books()
    if one == other:
        return
    held.records[one], held.records[other] = held.records[other], held.records[one]
    if rewrite:
        held.records = rehashed(held.records)
    assert first(held.report()) == (min(one, other) + 1, "reordered")


@settings(max_examples=30)
@given(st.integers(0, 11))
def test_a_cut_ledger_is_told_by_its_checkpoints(kept: int) -> None:
    held = books()
    held.records = held.records[:kept]
    assert first(held.report()) == (kept + 1, "cut")
    held.checkpoints = books(leaves=False).checkpoints
    assert first(held.report()) == (kept + 1, "cut")


@settings(max_examples=30)
@given(places)
def test_an_inserted_record_is_named(place: int) -> None:
    held = books()
    held.records.insert(place, {"record": content("catalog", 99, "forged").decode()})
    held.records = rehashed(held.records)
    assert first(held.report()) == (place + 1, "inserted")


@settings(max_examples=60)
@given(places)
def test_without_lists_a_checkpoint_still_shows_where_to_look(place: int) -> None:
    held = books(leaves=False)
    held.records[place]["record"] = held.records[place]["record"].replace('"action":"x"', '"action":"y"')
    held.records = rehashed(held.records)
    position, kind = first(held.report())
    assert kind == "altered"
    assert position == place // 5 * 5 + 1
    assert f"{position} and {min(position + 4, 12)}" in (held.report().first or audit.Finding(0, "cut", "")).message


def test_a_gap_in_the_numbers_of_a_service_is_found_in_a_ledger_that_is_sealed_and_whole() -> None:
    contents = [content("catalog", 1), content("deployer", 1), content("catalog", 3)]
    records = exported(contents)
    report = Books(records, [sealed(records, 0, 3)]).report()
    assert first(report) == (3, "gap")
    assert "catalog's number 2" in (report.first or audit.Finding(0, "cut", "")).message


def test_a_forged_checkpoint_is_told() -> None:
    held = books()
    held.records[1]["record"] = held.records[1]["record"].replace('"action":"x"', '"action":"y"')
    held.records = rehashed(held.records)
    forger = Ed25519PrivateKey.from_private_bytes(bytes(32))
    held.checkpoints = [sealed(held.records, 0, 12, forger)]
    assert first(held.report()) == (1, "forged")
    public = forger.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert first(held.report({_NAME: public})) == (1, "forged")
    assert first(held.report({})) == (1, "forged")


@pytest.mark.parametrize("field", ["position", "head", "sealed_at", "leaves", "from"])
def test_no_part_of_a_checkpoint_can_be_changed(field: str) -> None:
    held = books()
    checkpoint = held.checkpoints[1]
    changed = {"position": 9, "head": held.records[3]["hash"], "sealed_at": "2025-01-01T00:00:00Z", "from": 4}
    checkpoint[field] = changed.get(field, checkpoint["leaves"][:-1])
    if field == "leaves":  # the lists only locate: without this one the signed heads still hold
        held.records[6]["record"] = held.records[6]["record"].replace('"action":"x"', '"action":"y"')
        held.records = rehashed(held.records)
    assert not held.report().ok


@pytest.mark.parametrize("leaves", [True, False])
def test_checkpoints_that_the_ledger_names_and_nobody_gives_are_told(leaves: bool) -> None:
    told = [content("catalog", 1), content("governor", 1, "audit.sealed", position=1), content("catalog", 2),
            content("governor", 2, "audit.sealed", position=3), content("catalog", 3)]  # fmt: skip
    records = exported(told)
    held = Books(records, [sealed(records, start, end) for start, end in ((0, 1), (1, 3), (3, 4))])
    if not leaves:
        held.checkpoints = [{k: v for k, v in c.items() if k not in ("from", "leaves")} for c in held.checkpoints]
    assert held.report().ok and held.report().tail == "; the newest 1 not sealed yet"
    del held.checkpoints[2]
    assert held.report().ok, "nothing tells of the newest one yet"
    del held.checkpoints[1]
    assert first(held.report()) == (2, "unsealed")


def test_a_restored_old_copy_is_told_by_the_later_checkpoint() -> None:
    old, new = books(rows=5), books(rows=12)
    assert first(Books(old.records, new.checkpoints).report()) == (6, "cut")


def test_an_old_copy_that_was_continued_is_told() -> None:
    held = books(rows=10)
    other = exported([r["record"].encode() for r in held.records[:5]] + [content("catalog", 5 + i) for i in range(5)])
    continued = Books(other, [*held.checkpoints, sealed(other, 5, 10)])
    assert first(continued.report())[0] == 6


def test_dropped_checkpoints_are_told() -> None:
    held = books()
    del held.checkpoints[1]
    assert first(held.report()) == (6, "restored")


@settings(max_examples=100)
@given(st.data())
def test_no_input_breaks_the_verifier(data: st.DataObject) -> None:
    odd = st.dictionaries(
        st.sampled_from(["position", "hash", "record", "head", "signature", "leaves", "from"]),
        st.one_of(st.none(), st.integers(), st.text(max_size=9), st.lists(st.integers(), max_size=2)),
    )
    audit.verify(data.draw(st.lists(odd, max_size=3)), data.draw(st.lists(odd, max_size=3)), KEYS)


def test_without_its_package_it_says_what_to_install_and_calls_nothing_forged(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(audit.CannotVerify, match=r"fairlead\[audit\]"):
        books_before.report()


def test_both_verifiers_agree_with_the_governor_on_the_chain() -> None:
    held = books()
    seals = {c["position"]: [chain.Sealed(c["position"], c["head"], True)] for c in held.checkpoints}
    online = chain.Verification(seals)
    for record in held.records:
        told = json.loads(record["record"])
        link = chain.Link(record["position"], record["hash"], record["record"].encode())
        online.see(link, told | {"at": datetime.fromisoformat(told["at"])})
    assert online.finish() is None


def test_it_runs_by_itself_and_its_exit_code_says_what_it_found(tmp_path: Path) -> None:
    held = books()
    pem = _KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / f"{_NAME}.pem").write_bytes(pem)
    paths = [tmp_path / "records.jsonl", tmp_path / "checkpoints.jsonl", tmp_path / "keys"]

    def run() -> subprocess.CompletedProcess[str]:
        for path, rows in ((paths[0], held.records), (paths[1], held.checkpoints)):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [sys.executable, "-m", "fairlead.audit", *map(str, paths)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = run()
    assert (good.returncode, good.stdout.strip()) == (0, "12 records as sealed, 12 under 3 checkpoints")
    del held.records[3]
    bad = run()
    assert bad.returncode == 1
    assert "from record 4" in bad.stdout
    held = books()
    del held.checkpoints[2]
    assert run().stdout.strip() == "12 records as sealed, 10 under 2 checkpoints; the newest 2 not sealed yet"
    held.checkpoints = []
    assert (nothing := run()).returncode == 1 and "no valid checkpoint" in nothing.stdout
    held.records = []
    assert run().returncode == 2
    (paths[2] / f"{_NAME}.pem").unlink()
    assert (keyless := run()).returncode == 2 and "no keys in" in keyless.stderr
