"""What a scorer host used, period by period, as `usage.reported`: out of what its processes write of themselves."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from contracts import UsageReported
from services.kit.again import Backoff
from services.kit.away import is_away
from services.kit.cloudevents import headers
from services.kit.context import Context, system
from services.kit.ids import now
from services.kit.producer import Outgoing, Producer
from services.kit.telemetry import get_logger

from .engines import life_of
from .files import write_atomically
from .settings import ScorerSettings

log = get_logger(__name__)

Amounts = dict[str, Any]
Page = dict[str, Amounts]
"""What one process says, by endpoint, model and version."""
_GROWING = (
    "inferences", "rows", "refused", "faults", "bytes_in", "bytes_out", "busy_s", "model_cpu_s", "serving_cpu_s",
)  # fmt: skip


class UsageReports:
    """Says what was used since it was said last, this host's restarts included; a repeat begins where the first did."""

    def __init__(self, settings: ScorerSettings, replica: str) -> None:
        self._settings = settings
        self._replica = replica
        self._folder = settings.run_folder / "usage"
        self._path = self._folder / "said"
        self._since, self._said = self._resume()

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(0.2)
        while True:
            await asyncio.sleep(self._settings.usage_s)
            try:
                await self.say()
                backoff = Backoff(0.2)
            except Exception as error:  # its kinds have no common base; all others go on
                if not (is_away(error) or isinstance(error, OSError)):
                    raise
                log.warning("reports of usage are delayed", error=str(error)[:200])
                await asyncio.sleep(backoff.pause())

    async def say(self) -> None:
        """One period, to now; kept as said once Kafka has it."""
        pages, until = dict(_pages(self._folder)), now()
        events = [self._event(each, until) for each in used(self._said, pages) if any(each[n] for n in _GROWING)]
        if events:
            async with Producer(self._settings) as producer:
                await producer.send_all(events)
        gone = [name for name in pages if not _lives(name)]
        self._since, self._said = until, {name: page for name, page in pages.items() if name not in gone}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, orjson.dumps({"until": until, "pages": self._said}))
        for name in gone:  # whoever wrote it will not write again
            (self._folder / name).unlink(missing_ok=True)

    def _event(self, each: Amounts, until: datetime) -> Outgoing:
        unit, given = each["unit"], {name: value for name, value in each.items() if name != "unit"}
        event = UsageReported(replica=self._replica, since=self._since, until=until, **given)
        said = headers(UsageReported, "scorer", event.endpoint, Context(system("scorer")), unit)
        return UsageReported.topic.name, event.endpoint.encode(), event.to_json(), said

    def _resume(self) -> tuple[datetime, dict[str, Page]]:
        try:
            said = orjson.loads(self._path.read_bytes())
            return datetime.fromisoformat(said["until"]), said["pages"]
        except (FileNotFoundError, orjson.JSONDecodeError):
            return now(), {}


def used(before: Mapping[str, Page], after: Mapping[str, Page]) -> list[Amounts]:
    """By version, what all processes used between two looks at their sums; memory is what they have."""
    found: Page = {}
    for name, page in after.items():
        for key, amounts in page.items():
            known = before.get(name, {}).get(key, {})
            new = {n: amounts.get(n, 0) - known.get(n, 0) for n in _GROWING}  # an older process wrote no `faults`
            so_far = found.setdefault(key, amounts | dict.fromkeys(_GROWING, 0) | {"memory_bytes": 0})
            for n, value in new.items():
                so_far[n] += value
            so_far["memory_bytes"] += amounts["memory_bytes"] if _lives(name) else 0
    return list(found.values())


def _pages(folder: Path) -> Iterator[tuple[str, Page]]:
    for path in folder.glob("[!.]*.json"):
        try:
            accounts = orjson.loads(path.read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            continue
        yield path.name, {f"{one['endpoint']} {one['model']} {one['version']}": one for one in accounts}


def _lives(name: str) -> bool:
    """Whether the process that writes such a file is there: `worker-0.1234-567890.json`, as `life_of` says."""
    life = name.split(".")[-2]
    pid = life.partition("-")[0]
    return pid.isdigit() and life_of(int(pid)) == life
