"""Decisions found again among many: by id, by whom they concern, by what decided, in small files and in merged ones."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from deploy.embedded import postgres as embedded_postgres
from deploy.embedded import secrets
from deploy.embedded.standalone import free_home, running
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.migrate import migrate, stored_passwords
from services.kit.objects import Objects
from services.recorder import store
from services.recorder.domain.layout import Body, Head, Place, file_name, folder, table
from services.recorder.domain.outcomes import Known, Report
from services.recorder.files import Files
from services.recorder.settings import RecorderSettings
from services.recorder.usecases.compaction import Compaction
from services.recorder.usecases.reading import Reading
from services.recorder.usecases.upkeep import Upkeep

_FILE, _COLUMNS, _HOURS, _ASKED = 10_000, 30, 24, 200

Ask = Callable[[int], Awaitable[object]]


class Recorder:
    """The recorder's own store, files and use cases, without its streams."""

    def __init__(self, db: Database, settings: RecorderSettings) -> None:
        self.db, self.files = db, Files(settings.recorded)
        self.upkeep = Upkeep(db, self.files, Objects(settings))
        self.reading = Reading(db, self.files)
        self.start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=_HOURS - 1)
        self.ids: list[str] = []

    async def fill(self, decisions: int) -> None:
        """One-row decisions over 24 hours, as batches of 10,000 leave them; a thousand entities, ids at random."""
        random, step = np.random.default_rng(1), timedelta(hours=_HOURS - 0.5) / decisions
        for first in range(0, decisions, _FILE):
            heads = [self._head(n, self.start + n * step) for n in range(first, min(first + _FILE, decisions))]
            values = random.normal(size=(_COLUMNS, len(heads)))
            body = Body({f"x{n}": values[n] for n in range(_COLUMNS)}, values[0] > 0, values[1])
            by_hour: dict[str, list[int]] = {}
            for place, head in enumerate(heads):
                by_hour.setdefault(folder(head.endpoint, head.received_at), []).append(place)
            rows = table(heads, body)
            for where, inside in by_hour.items():
                await self._write(where, [heads[n] for n in inside], rows.take(inside), first)
            self.ids += [head.inference_id for head in heads]
        await self.upkeep.place()

    async def follow(self) -> None:
        """A hundredth has an outcome, of the older half of the time, and a hundredth of those a label of its own."""
        followed = self.ids[: len(self.ids) // 2 : 50]
        for first in range(0, len(followed), _FILE):
            said = [
                Report(id, 0, "fraud" if n % 100 == 0 else f"class-{n % 3}", None, "somebody", None)
                for n, id in enumerate(followed[first : first + _FILE], first)
            ]
            known = [
                Known(each, "retail", f"endpoint-{n * 50 % 3}", 1, 1, self.start) for n, each in enumerate(said, first)
            ]
            async with self.db.transaction() as tx:
                await store.report(tx.session, said)
                await store.settle(tx.session, known, [None] * len(known), datetime.now(UTC))

    def _head(self, n: int, at: datetime) -> Head:
        return Head(
            str(uuid4()), f"endpoint-{n % 3}", "retail", f"use-case-{n % 50}", "model", 1 + n // 400_000, "champion",
            "rest", f"application-{n % 20}", f"entity-{n * 7919 % 1000}", None, None, at, 0.8, 1,
        )  # fmt: skip

    async def _write(self, where: str, heads: list[Head], rows: Any, first: int) -> None:
        place = Place(f"{where}/{file_name(0, first, first + _FILE - 1)}")
        size = self.files.write(place, [rows])
        new = store.NewFile(place.path, heads[0].endpoint, "retail", 0, first, first + _FILE - 1, len(heads),
                            tuple(heads), size)  # fmt: skip
        async with self.db.transaction() as tx:
            await store.add_file(tx.session, new)

    async def compact(self) -> None:
        merging = Compaction(self.db, self.files, self.upkeep, 2**27, timedelta(0))
        while await merging.step():
            pass

    def asks(self) -> dict[str, Ask]:
        """What is asked, by its number."""
        newest, all_, page = self.ids[-len(self.ids) // 48 :], self.ids, 51

        def listed(**wanted: Any) -> Awaitable[object]:
            return self.reading.decisions(store.Wanted(**wanted), None, page)

        return {
            "by id, newest half hour": lambda n: self.reading.decision(newest[n * 7919 % len(newest)]),
            "by id, any": lambda n: self.reading.decision(all_[n * 7919 % len(all_)]),
            "entity": lambda n: listed(entity=f"entity-{n % 1000}"),
            "entity and use case": lambda n: listed(entity=f"entity-{n % 1000}", use_case=f"use-case-{n % 50}"),
            "use case": lambda n: listed(use_case=f"use-case-{n % 50}"),
            "application, one hour": lambda n: listed(
                application=f"application-{n % 20}", start=self.start, end=self.start + timedelta(hours=1)
            ),
            "endpoint and oldest version": lambda n: listed(endpoint=f"endpoint-{n % 3}", version=1),
            "outcome known": lambda n: listed(outcome="known"),
            "outcome known, endpoint": lambda n: listed(endpoint=f"endpoint-{n % 3}", outcome="known"),
            "a rare label": lambda n: listed(label="fraud"),
            "a rare label, use case": lambda n: listed(label="fraud", use_case=f"use-case-{n % 50}"),
            "a label that nothing has": lambda n: listed(label=f"none-{n}"),
        }


async def _times(asks: dict[str, Ask]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, ask in asks.items():
        times: list[float] = []
        for n in range(_ASKED):
            began = time.perf_counter()
            await ask(n)
            times.append(1_000 * (time.perf_counter() - began))
        p50, p99 = np.percentile(times, [50, 99])
        found[name] = {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}
    return found


@contextmanager
def _database(home: Any) -> Iterator[str]:
    with running(embedded_postgres.part(home)):
        urls = asyncio.run(migrate(embedded_postgres.administrator_url(home), stored_passwords(home.path)))
        yield urls["recorder"]


async def _measure(url: str, settings: RecorderSettings, decisions: int) -> dict[str, Any]:
    db = Database(url, "recorder")
    recorder, found = Recorder(db, settings), dict[str, Any](decisions=decisions)
    with use(Context(system("recorder"))):
        began = time.perf_counter()
        await recorder.fill(decisions)
        found["recorded_per_second"] = round(decisions / (time.perf_counter() - began))
        await recorder.follow()
        async with db.engine.connect() as connection:
            await connection.exec_driver_sql("ANALYZE recorder.decision, recorder.outcome")
        found["small files"] = await _times(recorder.asks())
        began = time.perf_counter()
        await recorder.compact()
        found["compaction_s"] = round(time.perf_counter() - began, 1)
        found["merged files"] = await _times(recorder.asks())
    await db.close()
    return found


def measure(folder: Path, decisions: int) -> dict[str, Any]:
    """p50 and p99 of each question, in milliseconds; nothing else of a platform runs."""
    home = free_home(folder / "decisions")
    secrets.make_secrets(home)
    with _database(home) as url:
        return asyncio.run(_measure(url, RecorderSettings(home=home.path), decisions))
