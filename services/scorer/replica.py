"""What a host as a whole has loaded for an endpoint, out of what its slots say."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Literal
from uuid import uuid4

import orjson

from .process import lives
from .settings import ScorerSettings


def name_of(settings: ScorerSettings) -> str:
    """This host's name, kept over restarts: it is half of a compacted key, and who waits for this host knows it by it.

    Whichever of the host's processes is the first makes it.
    """
    if settings.replica:
        return settings.replica
    path = settings.run_folder / "replica"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent) as part:
            part.write(f"scorer-{uuid4().hex[:8]}")
            part.flush()
            with suppress(FileExistsError):
                os.link(part.name, path)
    return path.read_text()


@dataclass(frozen=True)
class Report:
    """The changing part of `replica.reported`."""

    unit: str
    revision: int
    state: Literal["ready", "loading", "failed", "removed"]
    reason: str | None
    loaded: tuple[int, ...]


def report_of(endpoint: str, wanted: Mapping[str, Any], slots: Sequence[Mapping[str, Any]]) -> Report:
    """Ready when every slot serves the desired revision; failed as soon as one says why it cannot; else loading, with
    the reason of one that waits for something."""
    unit, revision = wanted["unit"], wanted["revision"]
    said = [slot.get(endpoint) for slot in slots]
    here = [one for one in said if one and one["revision"] == revision]
    loaded = _everywhere(said)
    for state in ("failed", "loading"):
        if found := next((one for one in here if one["state"] == state), None):
            return Report(unit, revision, state, found["reason"], loaded)
    if not here or len(here) < len(slots):
        return Report(unit, revision, "loading", None, loaded)
    return Report(unit, revision, here[0]["state"], None, loaded)


def _everywhere(said: Sequence[Mapping[str, Any] | None]) -> tuple[int, ...]:
    """The versions that all slots serve."""
    versions = [set(one["loaded"]) if one else set() for one in said]
    return tuple(sorted(set.intersection(*versions))) if versions else ()


def served_by_others(loaded: Path) -> set[str]:
    """The endpoints that other processes on the same socket serve, by what they say beside this one's own file."""
    kind, _, slot = loaded.stem.partition("-")
    found: set[str] = set()
    for path in loaded.parent.glob(f"{kind}-*.json") if slot else ():
        try:
            said = orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            continue
        if path != loaded and lives(said["pid"]):
            found |= {name for name, one in said["endpoints"].items() if one["loaded"]}
    return found
