"""One endpoint under watch: evidence against its budget, effects against its tolerance, and what follows."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, log
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from .detectors.edetector import EDetector
from .effects import Effect, effects
from .reference import Reference
from .season import NONE, Season
from .windows import Block

Array = NDArray[Any]
Phase = Literal["watching", "doubting", "alarmed"]

_DECIDE_ROWS = 50_000
"""So many rows after a change its effect is known well enough to stop waiting for a better interval."""
_HEAD = struct.Struct("<BII")


@dataclass(frozen=True)
class Finding:
    """Something changed: an alarm where it matters, a note where it does not."""

    kind: Literal["alarm", "note"]
    since_s: float
    statistic: float
    rows: int
    """Rows since the change began that the effects are estimated from."""
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Recent:
    """What was seen since a change began."""

    counts: Array
    """[tracks, width]"""
    rows: Array
    """[slots, tracks]: how many of them each slot of the season says something of. A group has its own times."""

    @classmethod
    def of(cls, blocks: Sequence[Block], season: Season, shape: tuple[int, ...]) -> "Recent":
        """Of some blocks, which have counts of this shape."""
        counts, rows = np.zeros(shape, np.int64), np.zeros((season.slots, shape[0]))
        for block in blocks:
            counts += block.counts
            weights = season.weights(block.start_s)
            near = np.flatnonzero(weights)
            rows[near] += np.outer(weights[near], block.counts.sum(axis=1))
        return cls(counts, rows)

    @classmethod
    def by_slot(cls, counts: Array, rows: Array) -> "Recent":
        """As it was stored when rows were kept by slot [slots] alone: each track has them in the same parts."""
        return cls(counts, np.outer(rows / max(1.0, rows.sum()), counts.sum(axis=1)))

    def plus(self, other: "Recent") -> "Recent":
        """The rows of both."""
        return Recent(self.counts + other.counts, self.rows + other.rows)


@dataclass(frozen=True)
class Watch:
    """The state of watching. While in doubt or alarmed, the bag learns nothing more."""

    phase: Phase
    detector: EDetector
    statistic: float = 0.0
    last_s: float = -inf
    """Start of the last window that the detector saw."""
    since_s: float | None = None
    suspects: tuple[int, ...] = ()
    recent: Recent | None = None
    """Since the change began, while in doubt or alarmed."""
    normal: Array | None = None
    """Counts that a person accepted as the new normal: effects are measured against them, not the baseline."""

    @property
    def season(self) -> Season:
        """What is declared to come again."""
        return self.detector.bag.season

    @classmethod
    def start(cls, reference: Reference, season: Season = NONE) -> "Watch":
        """Of a version that no window was seen of."""
        return cls("watching", EDetector.start(reference.counts, season, reference.pairs))

    def suited(self, reference: Reference, season: Season) -> "Watch":
        """Itself, or a new one where another season was declared since; an open alarm stays until it is accepted."""
        return self if self.season == season or self.phase == "alarmed" else Watch.start(reference, season)

    def observe(self, blocks: Sequence[Block], start_s: float, budget_rows: int) -> "Watch":
        """After one more window. Windows come in order; one from before the last is no news and changes nothing."""
        if start_s <= self.last_s:
            return self
        watch = replace(self, last_s=start_s)
        for place, block in enumerate(blocks):
            watch = watch._observe(block, blocks[:place], log(budget_rows))
        return watch

    def _observe(self, block: Block, before: Sequence[Block], threshold: float) -> "Watch":
        """After one more block; `before` are those of the same window that were observed already."""
        if self.phase == "alarmed":
            return replace(self, recent=self._recent_with(block))
        detector = self.detector.observe(block, learn=self.phase == "watching")
        evidence = detector.evidence()
        statistic = float(np.clip(evidence.statistic, 0.0, 1e4))
        if self.phase == "doubting":
            suspects = tuple(np.flatnonzero(evidence.by_track >= threshold).tolist())
            together = tuple(sorted({*self.suspects, *suspects}))
            recent = self._recent_with(block)
            return replace(self, detector=detector, statistic=statistic, suspects=together, recent=recent)
        if statistic < threshold:
            return replace(self, detector=detector, statistic=statistic)
        best = int(np.argmax(evidence.by_track))
        suspects = tuple(np.flatnonzero(evidence.by_track >= threshold).tolist()) or (best,)
        since_s = float(evidence.since[best])
        return replace(
            self, phase="doubting", detector=detector, statistic=statistic, suspects=suspects,
            since_s=since_s,
        )._remembering(_since(since_s, before, block))  # fmt: skip

    def _recent_with(self, block: Block) -> Recent:
        """`recent` with one more block of its window, unless that one is from before the change."""
        new = Recent.of([block], self.season, block.counts.shape)
        if self.recent is None:
            return new
        older = self.since_s is not None and block.start_s < self.since_s
        return self.recent if older else self.recent.plus(new)

    def remember(self, blocks: Sequence[Block]) -> "Watch":
        """Add what was counted between the beginning of the change and the moment it showed."""
        return self._remembering(blocks) if blocks else self

    def _remembering(self, blocks: Sequence[Block]) -> "Watch":
        new = Recent.of(blocks, self.season, blocks[0].counts.shape)
        detector = self.detector
        if self.season != NONE:  # what it expects must not be what is in doubt
            detector = replace(detector, bag=detector.bag.without(blocks))
        return replace(self, detector=detector, recent=self.recent.plus(new) if self.recent else new)

    def judge(self, reference: Reference, tolerance: float) -> tuple["Watch", Finding | None]:
        """Decide on a doubt: an alarm, a note, or (while the interval leaves both open) nothing yet."""
        if self.phase != "doubting" or self.recent is None or self.since_s is None:
            return self, None
        places = list(self.suspects)
        suspected = effects(self.usual(reference, places), self.recent.counts[places])
        rows = self._rows(reference)
        late = rows >= _DECIDE_ROWS
        if matter := [effect for effect in suspected if effect.beyond(tolerance)]:
            return replace(self, phase="alarmed"), self._finding("alarm", matter, rows)
        if late or all(effect.within(tolerance) for effect in suspected):
            return self._calm(), self._finding("note", suspected, rows)
        return self, None

    def _rows(self, reference: Reference) -> int:
        """Rows since the change, of the suspect that has most: a group has fewer than all have."""
        assert self.recent is not None
        of = [0 if reference.tracks[place].kind == "pairs" else place for place in self.suspects]
        return max(int(self.recent.counts[place].sum()) for place in of)

    def usual(self, reference: Reference, places: Sequence[int] | None = None) -> Reference:
        """What effects are measured against, of all tracks or some: the baseline, what a person accepted, or what the
        season expects."""
        part = reference if places is None else reference.part(places)
        some = slice(None) if places is None else list(places)
        if self.season != NONE and self.recent is not None:
            return part.instead(self.detector.bag.expected(self.recent.rows, some))
        return part if self.normal is None else part.instead(self.normal[some])

    def _finding(self, kind: Literal["alarm", "note"], found: Sequence[Effect], rows: int) -> Finding:
        # Columns before what they are together, the larger effects first.
        ordered = sorted(found, key=lambda e: (e.track.kind not in ("numeric", "categorical"), -abs(e.size)))
        assert self.since_s is not None
        return Finding(kind, self.since_s, self.statistic, rows, tuple(ordered))

    def _calm(self) -> "Watch":
        """Go on with what was seen since the change as the new normal of the tracks that changed."""
        assert self.recent is not None
        places = list(self.suspects)
        detector = self.detector.renewed(places, self.recent.counts[places])
        return replace(self, phase="watching", detector=detector, since_s=None, suspects=(), recent=None)

    def accepted(self, least_rows: int = 1) -> "Watch":
        """What was seen since the change is the new normal, of every track that has so many rows of it; a season's is
        learned anew."""
        if self.season != NONE:
            pairs = len(self.detector.pairs.log_m)
            anew = EDetector.start(self.detector.bag.counts[0], self.season, pairs)
            return Watch("watching", anew, last_s=self.last_s)
        bag = self.detector.bag.counts[0]
        if self.recent is not None:  # of a group that hardly anybody was in since, what is known of it holds
            bag = np.where(self.recent.counts.sum(axis=1, keepdims=True) >= least_rows, self.recent.counts, bag)
        tracks = list(range(len(bag)))
        detector = self.detector.renewed(tracks, bag)
        return replace(
            self, phase="watching", detector=detector, statistic=0.0, since_s=None, suspects=(), recent=None, normal=bag
        )

    def silenced(self, since_s: float) -> "Watch":
        """As if it had told of a change that another one tells: it learns nothing more until that is accepted."""
        return replace(self, phase="alarmed", since_s=since_s, suspects=(), recent=None)

    def to_bytes(self) -> bytes:
        """As it is stored: a head in JSON, counts as 64-bit integers, packed, then the detector."""
        state = {
            "phase": self.phase, "statistic": self.statistic, "last_s": None if self.last_s == -inf else self.last_s,
            "since_s": self.since_s, "suspects": self.suspects, "shape": self.detector.bag.shape,
            "recent": self.recent is not None, "normal": self.normal is not None,
        }  # fmt: skip
        head = orjson.dumps(state)
        recent = self.recent.counts if self.recent else None
        kept = [each.astype("<i8").tobytes() for each in (recent, self.normal) if each is not None]
        rows = self.recent.rows.astype("<f8").tobytes() if self.recent else b""
        counts = zlib.compress(b"".join([*kept, rows]), 1)
        sizes = _HEAD.pack(1, len(head), len(counts))
        return sizes + head + counts + self.detector.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Watch":
        """What `to_bytes` wrote."""
        _, size, length = _HEAD.unpack_from(data)
        at = _HEAD.size + size
        state = orjson.loads(data[_HEAD.size : at])
        recent, normal = _kept(state, zlib.decompress(data[at : at + length]))
        return cls(
            state["phase"], EDetector.from_bytes(data[at + length :]), state["statistic"],
            -inf if state["last_s"] is None else state["last_s"], state["since_s"], tuple(state["suspects"]),
            recent, normal,
        )  # fmt: skip


def _kept(state: dict[str, Any], packed: bytes) -> tuple[Recent | None, Array | None]:
    """What was seen since a change, and what was accepted, of what `to_bytes` packed."""
    tracks, width = state["shape"]
    sizes = [tracks * width * state["recent"], tracks * width * state["normal"]]
    counts = np.frombuffer(packed, "<i8", sum(sizes)).reshape(-1, tracks, width)
    normal = counts[-1] if state["normal"] else None
    if not state["recent"]:
        return None, normal
    if (rows := np.frombuffer(packed, "<f8", offset=8 * sum(sizes))).size:
        return Recent(counts[0], rows.reshape(-1, tracks)), normal
    return Recent.by_slot(counts[0], np.array(state.get("slots") or [1.0])), normal


def _since(since_s: float, before: Sequence[Block], block: Block) -> list[Block]:
    """The blocks of a window, up to the one that showed the change, whose rows all came since it began.

    A window holds one partition's blocks after the other's, so what came before the change may stand behind it.
    """
    return [each for each in (*before, block) if each.start_s >= since_s] or [block]
