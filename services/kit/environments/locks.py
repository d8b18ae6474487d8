"""Requirements and locks, as people and tools write them. Pure."""

import hashlib
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ..errors import Invalid

FIELD = "requirements"
LOCK = "requirements.lock"
_MOST_LINES = 500
_MOST_BYTES = 1024 * 1024
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)")


@dataclass(frozen=True)
class Pin:
    """One distribution of a lock: its version and the hashes of its files."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def line(self) -> str:
        """As a lock file says it."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{each}" for each in self.hashes)])


def requirements(text: bytes) -> tuple[Requirement, ...]:
    """What a `requirements.txt` asks for. Raises Invalid naming the line that is not a plain requirement.

    Options, paths and addresses are refused: where packages come from is the operator's to say.
    """
    return tuple(_requirement(number, line) for number, line in _lines(text))


def is_lock(text: bytes) -> bool:
    """Whether hashes are named: then nothing needs to be looked up."""
    return b"--hash" in text


def pins(text: bytes) -> tuple[Pin, ...]:
    """The distributions of a lock, by name. Raises Invalid naming the line that pins nothing, or without a hash."""
    found: dict[str, Pin] = {}
    for number, line in _lines(text):
        hashes = tuple(sorted(set(_HASH.findall(line))))
        wanted = _requirement(number, _HASH.sub("", line))
        versions = [each.version for each in wanted.specifier if each.operator == "=="]
        if len(wanted.specifier) != 1 or not versions or "*" in versions[0] or not hashes:
            raise Invalid(f"requirements: line {number} does not pin one version with its hashes", FIELD)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        name = canonicalize_name(wanted.name)
        if name in found:
            raise Invalid(f"requirements: {name} is pinned twice", FIELD)
        found[name] = Pin(name, versions[0], hashes)
    return tuple(found[name] for name in sorted(found))


def completed(wanted: Sequence[Requirement], needed: Iterable[str]) -> tuple[str, ...]:
    """The requirements, and what the model's format needs beside them. `a|b`: one of the two, a where neither is."""
    named = {canonicalize_name(each.name) for each in wanted}
    missing = [each.split("|")[0] for each in needed if not named & set(map(canonicalize_name, each.split("|")))]
    return (*map(str, wanted), *missing)


def check_complete(locked: Sequence[Pin], needed: Iterable[str]) -> None:
    """Raise Invalid where a lock lacks what the model's format needs."""
    named = {pin.name for pin in locked}
    for each in needed:
        if not named & set(map(canonicalize_name, each.split("|"))):
            raise Invalid(
                f"requirements: the lock has no {' or '.join(each.split('|'))}, which such a model needs", FIELD
            )


def key(locked: Sequence[Pin]) -> str:
    """The digest of what is installed: the lock, whatever its lines and comments, for this Python and machine."""
    machine = [platform.python_implementation(), f"{sys.version_info[0]}.{sys.version_info[1]}", platform.machine(),
               *platform.libc_ver()]  # fmt: skip
    return hashlib.sha256("\n".join([*machine, *(pin.line for pin in locked)]).encode()).hexdigest()


def _lines(text: bytes) -> list[tuple[int, str]]:
    """The lines that say something, with their numbers; continued ones joined."""
    if len(text) > _MOST_BYTES:
        raise Invalid(f"requirements: more than {_MOST_BYTES} bytes", FIELD)
    try:
        lines = text.decode("utf-8-sig").replace("\\\r\n", " ").replace("\\\n", " ").splitlines()
    except UnicodeDecodeError:
        raise Invalid("requirements: this is not UTF-8 text", FIELD) from None
    said = [(number, re.split(r"(?:^|\s)#", line)[0].strip()) for number, line in enumerate(lines, 1)]
    found = [(number, line) for number, line in said if line]
    if len(found) > _MOST_LINES:
        raise Invalid(f"requirements: more than {_MOST_LINES} lines", FIELD)
    return found


def _requirement(number: int, line: str) -> Requirement:
    try:
        found = Requirement(line)
    except InvalidRequirement:
        hint = (
            "options, paths and addresses are not taken" if line[:1] in "-./" or "://" in line else "not a requirement"
        )
        raise Invalid(f"requirements: line {number} ({line[:80]!r}): {hint}", FIELD) from None
    if found.url:
        raise Invalid(
            f"requirements: line {number}: {found.name} names an address; packages come from the index", FIELD
        )
    return found
