"""The versions that are watched, with their baselines ready for counting."""

import asyncio
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts import (
    AxisProfile,
    CategoricalProfile,
    ColumnProfile,
    ModelSchema,
    MonitorSettings,
    NumericProfile,
    Profile,
    Rotation,
)
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.errors import NotFound
from services.kit.groups import class_name
from services.kit.objects import Objects
from services.kit.profiles import Binner
from services.kit.rules import Facts
from services.kit.segments import Segmenter
from services.kit.telemetry import get_logger

from .. import store
from ..domain.grouped import Grouped
from ..domain.outcomes.decided import Deciding
from ..domain.outcomes.labelled import Meaning
from ..domain.reference import Kind, Pair, Reference, Track
from ..domain.season import NONE, Season
from ..domain.windows import Part
from ..store import Endpoint

log = get_logger(__name__)

_KEPT = 200
_WAIT_S = 5.0
"""So long a version that no deployment names is waited for; then its rows are counted without a baseline."""
_LOOK_AGAIN_S = 10.0
_PAGE = 500
_LATEST_COMMIT = timedelta(minutes=3)
"""A change is dated by the beginning of its transaction, and seen after its end: none takes longer."""


@dataclass(frozen=True)
class Watched:
    """A version with what its baseline says."""

    model: str | None
    schema: ModelSchema | None
    binner: Binner | None
    reference: Reference | None
    numeric: tuple[str, ...] = ()
    """Watched columns of numbers, whose moments are kept."""
    centres: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    meaning: Meaning = field(default_factory=lambda: Meaning.of(None, None))
    """How its outcomes are to be read."""
    deciding: Deciding | None = None
    """How its decisions are counted by their scores."""
    segmenter: Segmenter | None = None
    """Where its baseline has segments."""
    grouped: Grouped | None = None
    """What is watched within the groups of its segments, where it has some."""
    truth: ColumnProfile | None = None
    """Labels of its training rows."""
    classes: tuple[str, ...] = ()
    """That it decided on them."""

    @cached_property
    def facts(self) -> Facts | None:
        """What rules may speak of."""
        return Facts.of(self.schema) if self.schema else None

    @classmethod
    def of(cls, model: str | None, schema: ModelSchema | None, profile: Profile | None) -> "Watched":
        """Without a schema or a profile its rows are counted and not looked into."""
        meaning, truth = Meaning.of(schema, profile), profile.label if profile else None
        if schema is None or profile is None:
            return cls(model, schema, None, None, meaning=meaning, truth=truth, classes=_decided(profile))
        binner = Binner(profile)
        segmenter = Segmenter(profile) if profile.segmented else None
        kinds: list[tuple[str, Kind]] = [(column.name, column.kind) for column in profile.columns]
        grouped = Grouped.of(segmenter.groups, kinds, segmenter.reference) if segmenter else None
        numbers = [column for column in profile.columns if isinstance(column, NumericProfile)]
        return cls(
            model, schema, binner, Reference.of(_tracks(profile, binner), binner.reference),
            tuple(c.name for c in numbers), np.array([c.mean for c in numbers]), meaning, Deciding.of(profile),
            segmenter, grouped, truth, _decided(profile),
        )  # fmt: skip

    @property
    def segmented(self) -> bool:
        """Whether groups of segments are watched, too, with their part of the budget."""
        return self.grouped is not None

    def fitting(self, part: Part) -> Part:
        """The part as it is, or without its columns where it was counted against another baseline."""
        shape = self.reference.counts.shape if self.reference else None
        if part.segments is not None and (self.segmenter is None or part.segments.shape != self.segmenter.shape):
            part = replace(part, segments=None)
        alike = all(block.counts.shape == shape for block in part.blocks)
        return part if alike and len(part.sums.count) in (0, len(self.numeric)) else part.without_columns()


def _decided(profile: Profile | None) -> tuple[str, ...]:
    decided = next((c for c in profile.columns if c.role == "prediction"), None) if profile else None
    return tuple(map(class_name, decided.classes)) if isinstance(decided, CategoricalProfile) else ()


def _tracks(profile: Profile, binner: Binner) -> tuple[Track, ...]:
    columns = [Track(c.name, c.kind, int(n)) for c, n in zip(profile.columns, binner.sizes, strict=False)]
    rotation = profile.rotation
    if rotation is None:
        return tuple(columns)
    sizes = iter(binner.sizes[len(columns) :].tolist())
    axes = [Track(_leading(rotation, axis), "axis", next(sizes)) for axis in rotation.axes]
    residuals = [Track(rotation.columns[of.column], "residual", next(sizes)) for of in rotation.residuals or ()]
    return (*columns, *axes, *residuals, *_sheets(rotation, binner))


def _leading(rotation: Rotation, axis: AxisProfile) -> str:
    leading = np.argsort(-np.abs(axis.loadings), kind="stable")[:2]
    return " and ".join(rotation.columns[i] for i in leading)


def _sheets(rotation: Rotation, binner: Binner) -> list[Track]:
    paired = combinations(zip(rotation.columns, binner.far, strict=False), 2)
    pairs = [Pair(one, other, float(np.sqrt(far * too))) for (one, far), (other, too) in paired]
    on_one = binner.width // 3
    return [
        Track("", "pairs", 3 * len(some), tuple(some))
        for some in (pairs[at : at + on_one] for at in range(0, len(pairs), on_one))
    ]


class Versions:
    """Finds versions and endpoint settings; both are kept in memory for a while."""

    def __init__(self, db: Database, objects: Objects) -> None:
        self._db = db
        self._objects = objects
        self._known: OrderedDict[tuple[str, int], tuple[Watched, float]] = OrderedDict()
        self._endpoints: dict[str, Endpoint] = {}
        self._read_to: datetime | None = None
        self._changed = asyncio.Event()
        self.outdated = True
        """Whether settings were changed here since they were read."""

    def outdate(self) -> None:
        """Settings were changed: the next round reads them."""
        self.outdated = True

    async def refresh(self) -> None:
        """Read the settings that changed since they were read last; another process may have changed them."""
        self.outdated = False
        with use(Context(system("monitor"))):
            async with self._db.reading() as session:
                at = await store.clock(session)
            after = ""
            while page := await self._changed_page(after):
                for each in page:
                    self._take_over(each)
                after = page[-1].endpoint
        self._read_to = at - _LATEST_COMMIT
        self._changed.set()
        self._changed = asyncio.Event()

    async def _changed_page(self, after: str) -> list[Endpoint]:
        async with self._db.reading() as session:
            return await store.changed(session, self._read_to, after, _PAGE)

    def _take_over(self, endpoint: Endpoint) -> None:
        self._endpoints[endpoint.endpoint] = endpoint
        known = self._known.get((endpoint.endpoint, endpoint.version))
        if known and known[0].model != endpoint.model:  # another model may come with the same number
            del self._known[endpoint.endpoint, endpoint.version]

    def settings(self, endpoint: str) -> MonitorSettings:
        """As they were read last; the defaults of an endpoint that is not known."""
        found = self._endpoints.get(endpoint)
        return found.settings if found else MonitorSettings()

    def season(self, endpoint: str) -> Season:
        """That holds, set or learned, as it was read last."""
        found = self._endpoints.get(endpoint)
        return found.season if found else NONE

    async def find(self, endpoint: str, version: int) -> Watched:
        """The version. One that is not known yet is waited for: its deployment was said before its inferences."""
        key = (endpoint, version)
        found = self._known.get(key)
        if found and (found[0].schema or time.monotonic() < found[1]):
            self._known.move_to_end(key)
            return found[0]
        watched = await self._load(endpoint, version, patient=found is None)
        self._known[key] = (watched, time.monotonic() + _LOOK_AGAIN_S)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return watched

    async def _load(self, endpoint: str, version: int, *, patient: bool) -> Watched:
        row = await self._row(endpoint, version)
        deadline = time.monotonic() + _WAIT_S
        while row is None and patient and (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left, 1.0)):
                    await self._changed.wait()
            except TimeoutError:
                pass
            row = await self._row(endpoint, version)
        if row is None:
            log.warning("a version is not in any deployment", endpoint=endpoint, version=version)
            return Watched.of(None, None, None)
        if endpoint not in self._endpoints:  # its first rows shall not be counted under the defaults
            await self._learn(endpoint)
        return Watched.of(row.model, row.schema, await self._profile(row.baseline_digest))

    async def _learn(self, endpoint: str) -> None:
        with use(Context(system("monitor"))), suppress(NotFound):
            async with self._db.reading() as session:
                self._endpoints[endpoint] = await store.endpoint(session, endpoint)

    async def _row(self, endpoint: str, version: int) -> store.VersionRow | None:
        with use(Context(system("monitor"))):
            async with self._db.reading() as session:
                return await store.version(session, endpoint, version)

    async def _profile(self, digest: str | None) -> Profile | None:
        if digest is None:
            return None
        try:
            return Profile.model_validate_json(await self._objects.get(digest))
        except NotFound:
            log.error("a baseline is not in the object store", digest=digest)
            return None


class Glance:
    """Versions as one batch sees them: the same for its last row as for its first, whatever is learned meanwhile."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self.known: dict[tuple[str, int], Watched] = {}

    async def find(self, endpoint: str, version: int) -> Watched:
        """`Versions.find`, once."""
        key = endpoint, version
        if key not in self.known:
            self.known[key] = await self._versions.find(endpoint, version)
        return self.known[key]
