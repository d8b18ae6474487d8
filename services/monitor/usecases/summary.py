"""Inferences to a part of a window: bins, moments and latencies of all rows at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from math import inf, isfinite, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts import Told
from services.kit.errors import Invalid
from services.kit.logged import Head
from services.kit.payloads import Columns, Decisions, Payload, decisions, features
from services.kit.profiles import Binner, numeric
from services.kit.rulebook import Rulebook
from services.kit.stream import Record

from ..domain.latency import LatencyCounts
from ..domain.outcomes.decided import Counts, Decided
from ..domain.rules import EXAMPLES, Evidence, Key, Rules, Tally
from ..domain.sample import SPACE, Row, Sample, place_of
from ..domain.traffic import Ids, Traffic
from ..domain.windows import Block, Part, Sums, block_cuts
from .versions import Watched

Array = NDArray[Any]
Unfit = list[tuple[int, Invalid]]


@dataclass(slots=True)
class Inference:
    """One record, as far as counting needs it: its head and its rows."""

    record: Record
    head: Head
    payload: Payload
    replayed: bool = False
    known: bool = False
    """Its rows and its latency were counted since it became a dead letter: only its columns are new."""

    @property
    def id(self) -> str:
        return self.head.inference_id


class Wanted(NamedTuple):
    """How many decisions of a window are explained at most, and the share that may be among them; and the rules that
    all must keep."""

    most: int
    share: float
    rulebook: Rulebook | None = None


NOBODY = Wanted(0, 0.0)
RULES_S = 0.05
"""So long the rules that go row by row may take for a part of a window."""


def summary(
    watched: Watched, members: Sequence[Inference], block_rows: int, blocks_at_most: int, wanted: Wanted = NOBODY
) -> tuple[Part, Unfit]:
    """The part, and the places of inferences whose rows are not those of their model's schema.

    Inferences whose payloads were not logged count by rows and latency alone.
    """
    new = [member for member in members if not member.known]
    latency = LatencyCounts.of([member.head.latency_ms for member in new])
    rows = sum(member.payload.rows for member in new)
    if watched.binner is None and wanted.rulebook is None:
        return Part(len(new), rows, (), Sums.zero(0), latency, traffic=_traffic(new)), []
    seen = {place: member for place, member in enumerate(members) if member.payload.sampled}
    unfit: Unfit = []
    try:
        columns, said = _columns(watched, list(seen.values()))
    except Invalid:
        unfit = _unfit(watched, seen)
        for place, _ in unfit:
            del seen[place]
        columns, said = _columns(watched, list(seen.values()))
    members = list(seen.values())
    rules = ruled(wanted.rulebook, members, columns, said) if wanted.rulebook and said else Rules()
    if watched.binner is None:
        return Part(len(new), rows, (), Sums.zero(0), latency, traffic=_traffic(new), rules=rules), unfit
    bins = _bins(watched.binner, members, columns)
    blocks = _blocks(watched.binner, members, bins, block_rows, blocks_at_most)
    decided = _decided(watched, members, bins, said)
    segments = watched.segmenter.count(bins) if watched.segmenter else None
    sums = _sums(watched, columns)
    sample = _sample(watched, members, columns, wanted)
    return Part(latency.total, rows, blocks, sums, latency, decided, segments, _traffic(new), sample, rules), unfit


def ruled(rulebook: Rulebook, members: Sequence[Inference], columns: Columns, said: Decisions) -> Rules:
    """How the rows of these inferences kept the rules, with the first decisions that broke each."""
    ends = np.cumsum([member.payload.rows for member in members])
    looked = rulebook.look(columns, said.prediction, said.score, RULES_S)
    made: dict[Key, Tally] = {}
    for key, found in zip(rulebook.rules.items(), looked, strict=True):
        broken = np.flatnonzero(found.broken)
        places, firsts = np.unique(np.searchsorted(ends, broken, side="right"), return_index=True)
        earliest = nsmallest(
            EXAMPLES, zip(places.tolist(), broken[firsts].tolist(), strict=True),
            key=lambda each: (members[each[0]].head.at_s, members[each[0]].id),
        )  # fmt: skip
        first = [
            Evidence(members[place].head.at_s, members[place].id, at - int(ends[place]) + members[place].payload.rows)
            for place, at in earliest
        ]
        made[Key(*key)] = Tally.of(int(found.looked.sum()), len(broken), int(found.undecided.sum()), first)
    return Rules(made)


def _sample(watched: Watched, members: Sequence[Inference], columns: Columns, wanted: Wanted) -> Sample:
    """One row of each decision that may be explained: rows of one request are alike, and told by its id which."""
    if not wanted.most or watched.schema is None:
        return Sample()
    names = [column.name for column in watched.schema.columns]
    if any(name not in columns for name in names):
        return Sample(wanted.most)
    places = np.array([place_of(member.head.inference_id) for member in members], np.int64)
    rows = np.array([member.payload.rows for member in members], np.int64)
    first = np.cumsum(rows) - rows
    some = np.flatnonzero((places < wanted.share * SPACE) & (rows > 0))
    some = some[np.argsort(places[some], kind="stable")]
    values = [columns[name] for name in names]
    picked = zip(places[some].tolist(), (first[some] + places[some] % rows[some]).tolist(), strict=True)
    return Sample.first(wanted.most, ((place, _row(values, at)) for place, at in picked))


def _row(values: Sequence[Array], at: int) -> Row:
    return tuple(_value(each[at]) for each in values)


def _value(value: Any) -> Told:
    if isinstance(value, str | bytes):
        return value.decode(errors="replace") if isinstance(value, bytes) else value
    number = float(value) if value is not None else nan
    return number if isfinite(number) else None


def _traffic(members: Sequence[Inference]) -> Traffic:
    newest_s = max((member.head.at_s for member in members), default=-inf)
    named = [member.head.request_id for member in members]
    return Traffic(newest_s, Ids.of(id for id in named if id is not None))


def _columns(watched: Watched, members: Sequence[Inference]) -> tuple[Columns, Decisions | None]:
    """Features, prediction and score by the names of the profile, and the decisions; nothing of nobody."""
    if not members:
        return {}, None
    assert watched.schema is not None
    payloads = [member.payload for member in members]
    columns = features(watched.schema, payloads)
    said = decisions(watched.schema, payloads)
    if watched.binner is None:
        return columns, said
    for name, role in zip(watched.binner.names, watched.binner.roles, strict=True):
        if role == "prediction":
            columns[name] = said.prediction
        elif role == "score" and said.score is not None:
            columns[name] = said.score
    return columns, said


def _unfit(watched: Watched, members: Mapping[int, Inference]) -> Unfit:
    found: Unfit = []
    for place, member in members.items():
        try:
            _columns(watched, [member])
        except Invalid as reason:
            found.append((place, reason))
    return found


def _bins(binner: Binner, members: Sequence[Inference], columns: Columns) -> Array:
    return binner.bin(columns, sum(member.payload.rows for member in members))


def _blocks(
    binner: Binner, members: Sequence[Inference], bins: Array, block_rows: int, at_most: int
) -> tuple[Block, ...]:
    if not len(bins):
        return ()
    at = np.repeat([member.head.at_s for member in members], [member.payload.rows for member in members])
    cuts = block_cuts(len(bins), block_rows, at_most)
    return tuple(Block(float(at[cut].min()), cut.stop - cut.start, binner.count(bins[cut])) for cut in cuts)


def _decided(watched: Watched, members: Sequence[Inference], bins: Array, said: Decisions | None) -> Decided:
    """What each variant decided, by score."""
    deciding = watched.deciding
    if deciding is None or said is None or not len(bins):
        return Decided()
    decisions, score = bins[:, deciding.place], said.score
    variants = {member.head.origin.variant for member in members}
    if len(variants) == 1:
        return _told(variants.pop(), deciding.count(decisions, score))
    by_row = np.repeat([member.head.origin.variant for member in members], [member.payload.rows for member in members])
    found = Decided()
    for variant in variants:
        here = by_row == variant
        found = found.merge(_told(variant, deciding.count(decisions[here], None if score is None else score[here])))
    return found


def _told(variant: str, counts: Counts) -> Decided:
    return Decided({variant: counts} if counts else {})


def _sums(watched: Watched, columns: Columns) -> Sums:
    values = [numeric(columns[name]) for name in watched.numeric if name in columns]
    if len(values) < len(watched.numeric) or not values:
        return _partial_sums(watched, columns)
    return Sums.of(np.column_stack(values), watched.centres)


def _partial_sums(watched: Watched, columns: Columns) -> Sums:
    """Where a column is not in these rows (a foreign runtime leaves it out) its moments stay as they are."""
    rows = len(next(iter(columns.values()), ()))
    nothing: Array = np.full(rows, np.nan)
    values = [numeric(columns[name]) if name in columns else nothing for name in watched.numeric]
    return Sums.of(np.column_stack(values), watched.centres) if values else Sums.zero(0)
