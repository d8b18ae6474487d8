"""Shows windows and labels to the detectors that an operator chose for an endpoint."""

import asyncio
from collections.abc import Iterable
from typing import Literal

from contracts import MonitorSettings
from services.kit.db import Tx

from ..domain.budget import of_each_chosen
from ..domain.chosen import Heard, Watched, WatchedLabels
from ..domain.detectors.chosen import chosen as of_kind
from ..domain.effects import Effect, effects
from ..domain.outcomes.labelled import Task
from ..domain.outcomes.loss import LossBlock, LossFinding, Worse, worse
from ..domain.reference import Reference
from ..domain.season import NONE
from ..domain.watch import Finding
from ..domain.windows import Part
from ..store import Endpoint, WindowKey, chosen


async def observe(
    tx: Tx, key: WindowKey, endpoint: Endpoint, reference: Reference, part: Part
) -> tuple[Finding, Heard] | None:
    """A closed window of the version that serves. Under a season nobody is shown anything: they know of none."""
    names, counts = of_kind(endpoint.settings.detectors, "columns"), part.counts()
    if not names or counts is None or endpoint.season != NONE:
        return None
    kept = await chosen.state(tx.session, endpoint, "columns")
    known = (Watched.from_bytes(kept) if kept else None) or Watched.start(reference)
    budget = of_each_chosen(endpoint.settings.budget_rows, endpoint.settings.detectors)
    after, heard = await asyncio.to_thread(
        known.observe, names, reference, counts, key.start.timestamp(), budget
    )  # fmt: skip
    await chosen.save(tx.session, endpoint, "columns", after.to_bytes())
    if heard is None or heard.counts is None:
        return None
    places, seen = list(heard.columns), heard.counts
    found = tuple(effects(reference.part(places), seen[places]))
    kind = kind_of(found, endpoint.settings.tolerance)
    return Finding(kind, heard.since_s, heard.statistic, int(seen.sum(axis=1).max()), found), heard


def kind_of(found: Iterable[Effect | Worse], tolerance: float) -> Literal["alarm", "note"]:
    """An alarm needs an effect beyond the tolerance, as with the monitor's own detectors; a small one is a note."""
    return "alarm" if any(effect.beyond(tolerance) for effect in found) else "note"


async def observe_labels(
    tx: Tx, endpoint: Endpoint, task: Task, blocks: list[LossBlock]
) -> tuple[LossFinding, Heard] | None:
    """Labels as they came; of numbers there is no right or wrong. Answers the newest of what they find."""
    names = of_kind(endpoint.settings.detectors, "labels")
    if not names or not blocks or task == "regression":
        return None
    kept = await chosen.state(tx.session, endpoint, "labels")
    after, found = await asyncio.to_thread(_shown, kept, names, task, blocks, endpoint.settings)
    await chosen.save(tx.session, endpoint, "labels", after)
    return found


def _shown(
    kept: bytes | None, names: tuple[str, ...], task: Task, blocks: list[LossBlock], settings: MonitorSettings
) -> tuple[bytes, tuple[LossFinding, Heard] | None]:
    """All blocks at once, on a thread: river takes seconds to be imported, and microseconds for each label."""
    watch = (WatchedLabels.from_bytes(kept) if kept else None) or WatchedLabels()
    budget = of_each_chosen(settings.budget_rows, settings.detectors)
    found: tuple[LossFinding, Heard] | None = None
    for block in blocks:
        watch, heard = watch.observe(names, block, budget)
        effect = worse(task, watch.before, watch.now, settings.expected_error) if heard else None
        if heard and effect:
            kind = kind_of((effect,), settings.tolerance)
            found = LossFinding(kind, watch.since_s, heard.statistic, effect), heard
    return watch.to_bytes(), found
