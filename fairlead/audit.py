"""The offline verifier of the audit ledger: shares no code with the service that wrote it.

It needs three things that lie apart: the exported records, the checkpoints that were kept outside the database, and
the public keys of the governor. `python -m fairlead.audit records.jsonl checkpoints.jsonl keys/public`
"""

import base64
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

Kind = Literal[
    "altered", "dropped", "reordered", "inserted", "gap", "cut", "forged", "restored", "unreadable", "unsealed"
]

Check = Callable[[bytes, bytes], bool]
"""Whether a signature fits some bytes."""

_NEEDED = "checking signatures takes the package cryptography: pip install 'fairlead[audit]'"
_GENESIS = hashlib.sha256(b"fairlead ledger 1").digest()
_SEALER = "governor"
_KEY_OWNER = f"{_SEALER}-"
_UNSIGNED = frozenset({"signature", "from", "leaves"})


class CannotVerify(ValueError):
    """Something that the verification itself needs is not there."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was sealed."""

    position: int
    """The first record concerned, counted from 1."""
    kind: Kind
    message: str


@dataclass(frozen=True)
class Report:
    """What the verifier saw. `first` names the first bad record."""

    records: int
    checkpoints: int
    sealed_to: int
    """Records up to here are covered by a valid checkpoint; later ones by the chain alone."""
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether all is as it was sealed."""
        return not self.findings

    @property
    def tail(self) -> str:
        """What to add of the newest records, which wait for their checkpoint; empty where none does."""
        left = self.records - self.sealed_to
        return f"; the newest {left} not sealed yet" if left > 0 else ""

    @property
    def first(self) -> Finding | None:
        """The finding that comes first in the ledger; None where there is none."""
        return min(self.findings, key=lambda finding: finding.position, default=None)


@dataclass(frozen=True)
class _Record:
    position: int
    hash: str
    content: bytes
    service: str
    number: int
    seal: int | None
    """The position of the checkpoint of which this record tells."""


@dataclass(frozen=True)
class _Seal:
    position: int
    head: str
    leaves: tuple[str, ...] | None
    start: int


def verify(
    records: Iterable[Mapping[str, Any]],
    checkpoints: Iterable[Mapping[str, Any]],
    keys: Mapping[str, bytes],
) -> Report:
    """Check exported records against checkpoints, both in the order of their files.

    `keys` holds raw Ed25519 public keys (32 bytes) by key id: from configuration, never from where the records came.
    """
    checks = _checks(keys)
    rows, findings = _read(records)
    given = list(checkpoints)
    seals, forged = _trusted(given, checks)
    findings += forged
    sealed_leaves = _sealed_leaves(seals)
    findings += _against_leaves(rows, sealed_leaves)
    findings += _chain(rows)
    findings += _numbers(rows)
    findings += _against_heads(rows, seals, len(sealed_leaves))
    findings += _unsealed(rows, seals)
    return Report(len(rows), len(given), max((s.position for s in seals), default=0), tuple(findings))


def _read(records: Iterable[Mapping[str, Any]]) -> tuple[list[_Record], list[Finding]]:
    rows: list[_Record] = []
    for place, line in enumerate(records, start=1):
        try:
            content = line["record"].encode()
            told = orjson.loads(content)
            rows.append(
                _Record(line["position"], line["hash"], content, told["service"], told["number"], _seal_told(told))
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            return rows, [Finding(place, "unreadable", f"record {place} cannot be read")]
    return rows, []


def _seal_told(told: Mapping[str, Any]) -> int | None:
    if told["service"] != _SEALER or told.get("action") != "audit.sealed":
        return None
    position = told["detail"]["position"]
    if not isinstance(position, int):
        raise TypeError("a checkpoint's position is a number")
    return position


def _trusted(
    checkpoints: Sequence[Mapping[str, Any]], checks: Mapping[str, Check]
) -> tuple[list[_Seal], list[Finding]]:
    """The checkpoints that the governor signed and that continue one another."""
    seals: list[_Seal] = []
    findings: list[Finding] = []
    for place, line in enumerate(checkpoints, start=1):
        try:
            seal = _Seal(line["position"], line["head"], _leaves(line), line.get("from", 0))
            signed = _is_signed(line, checks)
        except (KeyError, TypeError, AttributeError, ValueError):
            findings.append(Finding(_end(seals) + 1, "forged", f"checkpoint {place} cannot be read"))
            continue
        if not signed:
            findings.append(Finding(_end(seals) + 1, "forged", f"checkpoint {place} carries no valid signature"))
        elif seal.position < _end(seals) or (seal.leaves is not None and seal.start != _end(seals)):
            findings.append(Finding(
                min(seal.start, seal.position, _end(seals)) + 1, "restored",
                f"checkpoint {place} seals {seal.position} from {seal.start}, after one at {_end(seals)}: "
                "checkpoints were dropped, or an older copy of the ledger was continued",
            ))  # fmt: skip
        else:
            seals.append(seal)
    return seals, findings


def _end(seals: Sequence[_Seal]) -> int:
    return seals[-1].position if seals else 0


def _leaves(line: Mapping[str, Any]) -> tuple[str, ...] | None:
    leaves = line.get("leaves")
    return None if leaves is None else tuple(str(leaf) for leaf in leaves)


def _is_signed(line: Mapping[str, Any], checks: Mapping[str, Check]) -> bool:
    fits = checks.get(line["signature"]["key_id"])
    told = {key: value for key, value in line.items() if key not in _UNSIGNED}
    signature = base64.b64decode(line["signature"]["value"], validate=True)
    return fits is not None and fits(signature, orjson.dumps(told, option=orjson.OPT_SORT_KEYS))


def _checks(keys: Mapping[str, bytes]) -> dict[str, Check]:
    """A check of signatures for each key of the governor that is what its id says. Raises CannotVerify."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ModuleNotFoundError:
        raise CannotVerify(_NEEDED) from None

    def check(raw: bytes) -> Check:
        key = Ed25519PublicKey.from_public_bytes(raw)

        def fits(signature: bytes, data: bytes) -> bool:
            try:
                key.verify(signature, data)
            except InvalidSignature:
                return False
            return True

        return fits

    proper = {name: raw for name, raw in keys.items() if name == _KEY_OWNER + hashlib.sha256(raw).hexdigest()[:12]}
    return {name: check(raw) for name, raw in proper.items()}


def _sealed_leaves(seals: Sequence[_Seal]) -> list[str]:
    """The hash of every sealed record, as far as checkpoints list them: the signed heads vouch for the lists."""
    known: list[str] = []
    head = _GENESIS
    for seal in seals:
        if seal.leaves is None or len(known) + len(seal.leaves) != seal.position:
            return known
        for leaf in seal.leaves:
            head = _link(head, leaf)
        if _hex(head) != seal.head:
            return known
        known += seal.leaves
    return known


def _against_leaves(rows: Sequence[_Record], sealed: Sequence[str]) -> list[Finding]:
    """Compare with what was sealed, record by record: a rewritten chain does not help whoever rewrote it."""
    places = {leaf: place for place, leaf in enumerate(sealed)}
    for place, expected in enumerate(sealed):
        if place >= len(rows):
            return [Finding(place + 1, "cut", f"records end at {len(rows)}; {len(sealed)} were sealed")]
        if (found := _leaf(rows[place].content)) != expected:
            return [_difference(place, found, expected, places, rows)]
    return []


def _difference(place: int, found: str, expected: str, places: Mapping[str, int], rows: Sequence[_Record]) -> Finding:
    position, elsewhere = place + 1, places.get(found)
    if elsewhere is None:
        following = _leaf(rows[place + 1].content) if place + 1 < len(rows) else None
        if following == expected:
            return Finding(position, "inserted", f"record {position} was inserted")
        return Finding(position, "altered", f"record {position} is not the one that was sealed")
    if any(_leaf(row.content) == expected for row in rows[place:]):
        return Finding(position, "reordered", f"record {position} stands where another was sealed")
    return Finding(position, "dropped", f"record {position} was dropped; record {elsewhere + 1} stands in its place")


def _chain(rows: Sequence[_Record]) -> list[Finding]:
    head = _GENESIS
    for place, row in enumerate(rows, start=1):
        if row.position != place:
            kind: Kind = "dropped" if row.position > place else "reordered"
            return [Finding(place, kind, f"record {place} is missing; record {row.position} stands in its place")]
        head = _link(head, _leaf(row.content))
        if row.hash != _hex(head):
            return [Finding(place, "altered", f"record {place} does not fit the chain")]
    return []


def _numbers(rows: Sequence[_Record]) -> list[Finding]:
    last: dict[str, int] = {}
    for place, row in enumerate(rows, start=1):
        expected = last.get(row.service, 0) + 1
        if row.number != expected:
            return [
                Finding(place, "gap", f"{row.service}'s number {expected} should be record {place}, not {row.number}")
            ]
        last[row.service] = row.number
    return []


def _against_heads(rows: Sequence[_Record], seals: Sequence[_Seal], listed: int) -> list[Finding]:
    """Checkpoints that do not list their records (from the topic) show a change, and between which records it lies."""
    heads, head = {0: _GENESIS}, _GENESIS
    for place, row in enumerate(rows, start=1):
        heads[place] = head = _link(head, _leaf(row.content))
    good = listed
    for seal in seals:
        if seal.position > len(rows):
            return [Finding(len(rows) + 1, "cut", f"records end at {len(rows)}; {seal.position} were sealed")]
        if _hex(heads[seal.position]) != seal.head:
            return [Finding(min(good, seal.position - 1) + 1, "altered",
                            f"a record between {good + 1} and {seal.position} is not what was sealed")]  # fmt: skip
        good = max(good, seal.position)
    return []


def _unsealed(rows: Sequence[_Record], seals: Sequence[_Seal]) -> list[Finding]:
    """The ledger names its own checkpoints: one that is named and not given was taken away, or is no valid one."""
    if rows and not seals:
        return [Finding(1, "unsealed", f"no valid checkpoint covers any of the {len(rows)} records")]
    given = {seal.position for seal in seals}
    for row in rows:
        if row.seal is not None and row.seal not in given:
            start = max((position for position in given if position < row.seal), default=0)
            message = f"record {row.position} tells of a checkpoint at {row.seal}, and no valid one is given"
            return [Finding(start + 1, "unsealed", message)]
    return []


def _leaf(content: bytes) -> str:
    return hashlib.sha256(b"\x00" + content).hexdigest()


def _link(head: bytes, leaf: str) -> bytes:
    return hashlib.sha256(b"\x01" + head + bytes.fromhex(leaf)).digest()


def _hex(head: bytes) -> str:
    return "sha256:" + head.hex()


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON Lines of a file. Raises ValueError naming the line that is none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError:
                    raise ValueError(f"{path.name}: line {number} is not JSON") from None


def keys_in(folder: Path) -> dict[str, bytes]:
    """The governor's public keys (PEM files named by key id), old ones included. Raises CannotVerify for none."""
    try:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
    except ModuleNotFoundError:
        raise CannotVerify(_NEEDED) from None
    keys = {
        path.stem: load_pem_public_key(path.read_bytes()).public_bytes(Encoding.Raw, PublicFormat.Raw)
        for path in sorted(folder.glob(f"{_KEY_OWNER}*.pem"))
    }
    if not keys:
        raise CannotVerify(f"no keys in {folder}: it takes the governor's public keys, {_KEY_OWNER}<id>.pem")
    return keys


def main(arguments: Sequence[str]) -> int:
    """Verify three paths; 0 when all is well, 1 with the first bad record, 2 when there is nothing to verify."""
    if len(arguments) != 3:
        print("usage: python -m fairlead.audit records.jsonl checkpoints.jsonl keys/public", file=sys.stderr)
        return 2
    records, checkpoints, folder = map(Path, arguments)
    try:
        report = verify(lines(records), lines(checkpoints), keys_in(folder))
    except (OSError, ValueError) as error:
        print(f"cannot verify: {error}", file=sys.stderr)
        return 2
    if report.first:
        print(f"NOT as sealed, from record {report.first.position}: {report.first.message}")
        return 1
    if not report.records:
        print("cannot verify: there are no records", file=sys.stderr)
        return 2
    print(f"{report.records} records as sealed, {report.sealed_to} under {report.checkpoints} checkpoints{report.tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
