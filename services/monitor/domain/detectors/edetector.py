"""A sequential detector whose false alarms have a budget, over all columns together and for as long as it runs.

Shin, Ramdas, Rinaldo: *E-detectors: a nonparametric framework for sequential change detection* (2022), on ranks in a
bag as in Vovk, Gammerman, Shafer: *Algorithmic Learning in a Random World* (2nd edition, 2022).

The bag holds the reference and every row seen since. A bettor is a positive function f of a value's rank in the bag
*with* the new block in it. As long as nothing changed, the block is a random sample of that bag without replacement,
and by Maclaurin's inequality the mean of the product of f over such a sample is at most mean(f)^n. So
`prod f / mean(f)^n` is an e-value, however small the reference is and however few classes there are. With
`M <- e (M + n)` (Shiryaev-Roberts, n rows a block) the mean of all M grows by no more than a row a row, and an alarm
when it passes the budget comes at a false time no more often than once in a budget of rows.
"""

import struct
import zlib
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from services.kit.binned import sheets, unpacked

from ..season import NONE, Season
from ..windows import Block
from .bag import Bag
from .pairs import BETTORS as PAIR_BETTORS
from .pairs import PairBets

Array = NDArray[Any]

NAME = "e-detector"

_RISES = np.array((0.05, 0.12, 0.3, 0.6))
"""Bets on a location: likelihood ratios of a normal one that moved by so many standard deviations, up or down."""
_SPREADS = np.array((0.5, 0.75, 1.25, 1.6))
"""Bets on a spread: likelihood ratios of a normal one whose standard deviation became so many times itself."""
_LIKELY, _GROUPS = 40, 20
"""A bettor learns which bins are in favour; of tracks with more bins than so many, which twentieths of the rows."""
_MEMORY_ROWS = 400.0
_PRIOR_ROWS = 60.0
_FAR = 3.5
_OF_PAIRS = 0.2
"""The part of the mean of all M that pairs have: they are many, and of few bettors each. It costs the columns a
quarter of a nat."""
_HEAD = struct.Struct("<BI")

_SQUARE = (1 - _SPREADS**-2) / 2
BETTORS = 2 * len(_RISES) + len(_SPREADS) + 1


@dataclass(frozen=True)
class Evidence:
    """What the detector has against "nothing changed"."""

    statistic: float
    """Logarithm of the weighted mean of all M; an alarm needs the logarithm of the budget."""
    by_track: Array
    """Logarithm of the mean of each track's M."""
    since: Array
    """By track, when the change began that its best bettor bets on: seconds since the epoch."""


@dataclass(frozen=True)
class EDetector:
    """The state after some rows: small, deterministic, serialisable."""

    bag: Bag
    recent: Array
    """[tracks but sheets, bins]: what the learning bettor has seen lately."""
    log_m: Array
    """[tracks but sheets, bettors]"""
    gain: Array
    """As `log_m`: the CUSUM of the logarithms; its last zero is when a change began."""
    began: Array
    rows: int
    pairs: PairBets
    """On pairs of columns; the bag has them on its last tracks, side by side."""

    @classmethod
    def start(cls, reference: Array, season: Season = NONE, pairs: int = 0) -> "EDetector":
        """Before the first row, with reference counts [tracks, bins] in the bag, the last of them sheets of pairs."""
        tracks, bins = len(reference) - sheets(pairs, reference.shape[1]), reference.shape[1]
        return cls(
            Bag.start(reference, season), np.zeros((tracks, bins)), np.full((tracks, BETTORS), -np.inf),
            np.zeros((tracks, BETTORS)), np.zeros((tracks, BETTORS)), 0, PairBets.start(pairs),
        )  # fmt: skip

    def observe(self, block: Block, *, learn: bool = True) -> "EDetector":
        """After one more block, which is in the bag from then on unless the bag shall not learn."""
        bag = self.bag.plus(block) if learn else self.bag
        if (known := self.bag.like(block.start_s)) is None:
            return replace(self, bag=bag, rows=self.rows + block.rows)
        tracks, after = len(self.log_m), known + block.counts
        won = self._winnings(block.counts[:tracks], after[:tracks])
        began = np.where(self.gain <= 0, block.start_s, self.began)
        keep = np.exp(-block.counts[:tracks].sum(axis=1) / _MEMORY_ROWS)[:, None]
        return EDetector(
            bag, self.recent * keep + block.counts[:tracks],
            won + np.logaddexp(self.log_m, np.log(block.rows)),
            np.maximum(self.gain, 0) + won, began, self.rows + block.rows,
            self._paired(block, after[tracks:]),
        )  # fmt: skip

    def _paired(self, block: Block, bag: Array) -> PairBets:
        count = len(self.pairs.log_m)
        new = unpacked(block.counts[len(self.log_m) :], count)
        return self.pairs.observe(new, unpacked(bag, count), block.start_s) if count else self.pairs

    def evidence(self) -> Evidence:
        """Over all tracks and by track [tracks]."""
        best = np.argmax(self.gain, axis=1)
        by_columns = float(_log_sum(self.log_m.ravel()) - np.log(max(1, self.log_m.size)))
        by_track, since = _log_sum(self.log_m) - np.log(BETTORS), self.began[np.arange(len(best)), best]
        if not len(self.pairs.log_m):
            return Evidence(by_columns, by_track, since)
        on_one, by_pairs = self.bag.shape[1] // 3, self.pairs
        by_sheet, of_sheets = by_pairs.by_sheet(on_one)
        held = float(_log_sum(by_sheet + np.log(by_pairs.rows(on_one))) - np.log(len(by_pairs.log_m)))
        both = float(np.logaddexp(by_columns + np.log(1 - _OF_PAIRS), held + np.log(_OF_PAIRS)))
        return Evidence(both, np.concatenate([by_track, by_sheet]), np.concatenate([since, of_sheets]))

    def renewed(self, tracks: list[int], bag: Array) -> "EDetector":
        """Some tracks bet anew, with another normal; the others go on."""
        recent, log_m, gain = (each.copy() for each in (self.recent, self.log_m, self.gain))
        columns, on_one, pairs = [each for each in tracks if each < len(log_m)], self.bag.shape[1] // 3, self.pairs
        recent[columns], log_m[columns], gain[columns] = 0.0, -np.inf, 0.0
        for sheet in (each - len(log_m) for each in tracks if each >= len(log_m)):
            pairs = pairs.renewed(slice(sheet * on_one, (sheet + 1) * on_one))
        return replace(self, bag=self.bag.renewed(tracks, bag), recent=recent, log_m=log_m, gain=gain, pairs=pairs)

    def _winnings(self, counts: Array, bag: Array) -> Array:
        """Logarithms [tracks, bettors] of the block's e-values."""
        rows, total = counts.sum(axis=1), np.maximum(bag.sum(axis=1), 1)
        shares = bag / total[:, None]
        ranks = np.cumsum(shares, axis=1) - shares / 2
        scores = _scores(ranks)
        squares = scores**2
        up = np.exp(_RISES[:, None, None] * scores)
        spread = np.exp(_SQUARE[:, None, None] * squares)
        means = np.concatenate([np.einsum("kjb,jb->jk", bet, shares) for bet in (1 / up, up, spread)], axis=1)
        first, second = (np.einsum("jb,jb->j", each, counts)[:, None] for each in (scores, squares))
        won = np.empty(self.log_m.shape)
        won[:, :-1] = np.concatenate([first * -_RISES, first * _RISES, second * _SQUARE], axis=1)
        won[:, :-1] -= rows[:, None] * np.log(np.where(means > 0, means, 1.0))  # a group may have no rows at a time
        won[:, -1] = self._learned(counts, shares, ranks, rows)
        return won

    def _learned(self, counts: Array, shares: Array, ranks: Array, rows: Array) -> Array:
        """The bet that what was in favour lately still is; its mean over the bag is one by itself."""
        place = _groups(ranks, self.bag.used[: len(shares)])
        recent, share = (np.bincount(place.ravel(), each.ravel(), place.size)[place] for each in (self.recent, shares))
        seen = self.recent.sum(axis=1)[:, None]
        expected = (recent + _PRIOR_ROWS * share) / (seen + _PRIOR_ROWS)
        bet = np.divide(expected, share, out=np.ones(share.shape), where=share > 0)
        mean = (bet * shares).sum(axis=1)
        return (counts * np.log(np.maximum(bet, 1e-9))).sum(axis=1) - rows * np.log(np.maximum(mean, 1e-9))

    def to_bytes(self) -> bytes:
        """As it is stored: a head in JSON, then the arrays as 64-bit floats, packed."""
        season = {"season_s": self.bag.season.period_s, "turn": self.bag.turn}
        head = orjson.dumps(
            {"shape": self.bag.shape, "bettors": BETTORS, "rows": self.rows, "pairs": len(self.pairs.log_m)} | season
        )
        passing = () if self.bag.season == NONE else (self.bag.passing,)
        arrays = (self.bag.counts, *passing, self.recent, self.log_m, self.gain, self.began,
                  self.pairs.log_m, self.pairs.gain, self.pairs.began)  # fmt: skip
        body = zlib.compress(b"".join(array.astype("<f8").tobytes() for array in arrays), 1)
        return _HEAD.pack(1, len(head)) + head + body

    @classmethod
    def from_bytes(cls, data: bytes) -> "EDetector":
        """What `to_bytes` wrote."""
        _, size = _HEAD.unpack_from(data)
        head = orjson.loads(data[_HEAD.size : _HEAD.size + size])
        values = np.frombuffer(zlib.decompress(data[_HEAD.size + size :]), "<f8")
        tracks, bins = head["shape"]
        season = Season(head.get("season_s"))
        pairs = head.get("pairs", 0)
        columns = tracks - sheets(pairs, bins)
        shapes = [(season.slots, tracks, bins), *[(tracks, bins)] * (0 if season == NONE else 1), (columns, bins)]
        shapes += [(columns, head["bettors"])] * 3 + [(pairs, PAIR_BETTORS)] * 3
        cuts = np.cumsum([prod(shape) for shape in shapes])[:-1]
        arrays = [part.reshape(shape) for part, shape in zip(np.split(values, cuts), shapes, strict=True)]
        counts, *passing, recent, log_m, gain, began, pair_m, pair_gain, pair_began = arrays
        bag = Bag(counts, season, passing[0] if passing else np.zeros((tracks, bins)), head.get("turn", -1))
        return cls(bag, recent, log_m, gain, began, head["rows"], PairBets(pair_m, pair_gain, pair_began))


def _scores(ranks: Array) -> Array:
    """Standardised logistic scores of the bins' mid-ranks: close to normal ones, and one logarithm."""
    ranks = np.clip(ranks, 1e-9, 1 - 1e-9)
    return np.clip(np.log(ranks / (1 - ranks)) * (3**0.5 / np.pi), -_FAR, _FAR)


def _groups(ranks: Array, used: Array) -> Array:
    """[tracks, bins]: the number of the group that each bin is in, over all tracks: itself, or a part of all ranks."""
    tracks, bins = ranks.shape
    parts = np.clip((ranks * _GROUPS).astype(np.int64), 0, _GROUPS - 1)
    own = np.where((used > _LIKELY)[:, None], parts, np.arange(bins))
    return own + bins * np.arange(tracks)[:, None]


def _log_sum(values: Array) -> Any:
    top = values.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0]
