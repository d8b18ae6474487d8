"""Tells what an endpoint's decisions rest on, or why that is not known."""

from dataclasses import dataclass
from math import log
from typing import Literal

from contracts import ModelSchema
from services.kit.db import Database
from services.kit.explaining import why_unexplained

from .. import store
from ..domain.budget import of_attributions
from ..domain.effects import Effect, effects
from ..domain.watch import Watch
from ..store import Endpoint, influences
from ..store.influences import Known
from .standing import Watching

State = Literal["off", "impossible", "waiting", "watching", "doubting", "alarmed"]
_FINDINGS = 20


@dataclass(frozen=True)
class Column:
    """How much one column moves decisions: over the reference, and lately."""

    name: str
    before: float
    effect: Effect


@dataclass(frozen=True)
class Influences(Watching):
    """How the watch of attributions of an endpoint stands."""

    state: State
    why: str | None
    """Why it is off, impossible or waiting."""
    known: Known | None
    columns: list[Column]
    """The most influential first."""
    rows: int
    windows: int

    @property
    def threshold(self) -> float:
        """What it must pass."""
        return log(of_attributions(self.endpoint.budget_rows))

    @property
    def reference_rows(self) -> int:
        """Of the version's package."""
        influence = self.known.influence if self.known else None
        return int(influence.reference.counts[0].sum()) if influence else 0


class Telling:
    """Reads under the caller's units."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def told(self, name: str, windows: int) -> Influences:
        """Over the newest windows of the version that serves. Raises NotFound."""
        async with self._db.reading() as session:
            endpoint = await store.endpoint(session, name)
            version = await store.version(session, name, endpoint.version)
            known = await influences.known(session, name, endpoint.version)
            watch = await store.watch(session, name, endpoint.version, "attribution_watch")
            found = await store.findings(session, name, _FINDINGS, "attributions")
            columns, rows, counted = list[Column](), 0, 0
            if known and known.influence:
                reference = known.influence.reference
                shape = reference.counts.shape
                counts, counted = await influences.counts(session, name, endpoint.version, windows, shape)
                usual = watch.usual(reference) if watch else reference
                means, rows = known.influence.means(usual.counts).tolist(), int(counts[0].sum())
                columns = [
                    Column(effect.track.name, before, effect)
                    for effect, before in zip(effects(usual, counts), means, strict=True)
                ]
        columns.sort(key=lambda column: -column.before)
        baseline = version is not None and version.baseline_digest is not None
        state, why = _state(endpoint, version.schema if version else None, known, watch, baseline=baseline)
        return Influences(endpoint, watch, found, state, why, known, columns, rows, counted)


def _state(
    endpoint: Endpoint, schema: ModelSchema | None, known: Known | None, watch: Watch | None, *, baseline: bool
) -> tuple[State, str | None]:
    if endpoint.settings.attributions == "off":
        return "off", "the endpoint's setting `attributions` is off"
    if why := why_unexplained(schema) if schema else None:
        return "impossible", why
    if known and known.cannot:
        return "impossible", known.cannot
    if not baseline:
        return "impossible", "the version has no baseline: its package brings no training rows"
    if watch:
        return watch.phase, None
    return "waiting", "no window of explained decisions is counted yet"
