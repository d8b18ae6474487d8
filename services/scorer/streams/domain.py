"""Which answers were already given: identities of streamed inferences, and a compact memory of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import numpy.typing as npt

INFERENCES = uuid5(NAMESPACE_URL, "urn:fairlead:inference")
"""The namespace of inference ids that can be computed again."""

_DIGITS = 36
"""Characters of a UUID."""

_OFFSET_BITS = 48
_BEGIN = np.uint64(44)
"""A key's beginning is what is left of it after so many bits are shifted out."""


class Identities:
    """The ids of one endpoint's inferences, UUIDv5 over endpoint, `ce_source` and `ce_id`; and their keys."""

    def __init__(self, endpoint: str) -> None:
        self._begun = sha1(INFERENCES.bytes + f"{endpoint}\n".encode(), usedforsecurity=False)

    def of(self, events: Sequence[tuple[str, str]]) -> tuple[list[str], list[int]]:
        """Of events by `ce_source` and `ce_id`: the inferences' ids, and `key_of` each."""
        if not events:
            return [], []
        digests: list[bytes] = []
        for source, event in events:
            begun = self._begun.copy()
            begun.update(f"{source}\n{event}".encode())
            digests.append(begun.digest())
        raw = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 20)[:, :16]
        keys = np.concatenate((raw[:, :6], raw[:, 14:]), axis=1).view(">u8").ravel().tolist()
        return _uuids(raw), keys


def _uuids(raw: npt.NDArray[np.uint8]) -> list[str]:
    """The texts of UUIDv5 from their hashes, [n, 16] (RFC 9562, 5.5)."""
    made = raw.copy()
    made[:, 6] = made[:, 6] & 0x0F | 0x50
    made[:, 8] = made[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(made.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    texts = np.full((len(raw), _DIGITS), ord("-"), np.uint8)
    for at, first, last in ((0, 0, 8), (9, 8, 12), (14, 12, 16), (19, 16, 20), (24, 20, 32)):
        texts[:, at : at + last - first] = digits[:, first:last]
    whole = texts.tobytes().decode()
    return [whole[at : at + _DIGITS] for at in range(0, len(whole), _DIGITS)]


def key_of(inference_id: str) -> int:
    """64 of the id's random bits. Two ids may share them: who finds a place checks the record there."""
    return int(inference_id[:8] + inference_id[9:13] + inference_id[32:36], 16)


def place(partition: int, offset: int) -> int:
    """Where an answer stands, in one number."""
    return partition << _OFFSET_BITS | offset


def at(place: int) -> tuple[int, int]:
    """Partition and offset of a place."""
    return place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1


@dataclass(frozen=True)
class Segment:
    """Some answers, sorted by key, and when the newest of them was written."""

    keys: npt.NDArray[np.uint64]
    places: npt.NDArray[np.int64]
    begins: npt.NDArray[np.bool_]
    """Which beginnings a key here has: most strangers are turned away by them."""
    newest_ms: int

    @classmethod
    def of(cls, answers: dict[int, int], newest_ms: int) -> "Segment":
        """Places by key; `newest_ms` is when the last of them was written."""
        keys = np.fromiter(answers.keys(), np.uint64, len(answers))
        order = np.argsort(keys)
        begins = np.zeros(1 << 64 - int(_BEGIN), np.bool_)
        begins[keys >> _BEGIN] = True
        return cls(keys[order], np.fromiter(answers.values(), np.int64, len(answers))[order], begins, newest_ms)

    def find(
        self, keys: npt.NDArray[np.uint64], beginnings: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
        """Which of `keys` (their positions) are here, and where their answers stand."""
        maybe = np.nonzero(self.begins[beginnings])[0]
        wanted = keys[maybe]
        slots = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        hits = np.nonzero(self.keys[slots] == wanted)[0]
        return maybe[hits], self.places[slots[hits]]


@dataclass
class Answered:
    """The answers of the last 24 hours, at most `limit` of them, at 24 bytes each; the oldest go first."""

    limit: int = 2_000_000
    keep_ms: int = 24 * 3600 * 1000
    segment_size: int = 131_072
    _recent: dict[int, int] = field(default_factory=dict[int, int])
    _newest_ms: int = 0
    _segments: list[Segment] = field(default_factory=list[Segment])

    def __len__(self) -> int:
        return len(self._recent) + sum(len(segment.keys) for segment in self._segments)

    def add(self, keys: Sequence[int], places: Sequence[int], now_ms: int) -> None:
        """Remember answers; forgets what is too old or too much."""
        self._recent.update(zip(keys, places, strict=True))
        self._newest_ms = max(self._newest_ms, now_ms)
        if len(self._recent) >= self.segment_size:
            self._segments.append(Segment.of(self._recent, self._newest_ms))
            self._recent = {}
            self._forget(now_ms)

    def _forget(self, now_ms: int) -> None:
        self._segments = [s for s in self._segments if s.newest_ms > now_ms - self.keep_ms]
        while self._segments and len(self) > self.limit:
            self._segments.pop(0)

    def find(self, keys: Sequence[int]) -> dict[int, int]:
        """The place of each answer that is remembered, by the key's position in `keys`."""
        found: dict[int, int] = {}
        if self._segments:
            wanted = np.array(keys, np.uint64)
            order = np.argsort(wanted)  # sorted, they walk through a segment instead of jumping in it
            wanted = wanted[order]
            beginnings = (wanted >> _BEGIN).astype(np.intp)
            for segment in self._segments:
                hits, places = segment.find(wanted, beginnings)
                found.update(zip(order[hits].tolist(), places.tolist(), strict=True))
        recent = self._recent
        if not recent.keys().isdisjoint(keys):
            found.update((i, recent[key]) for i, key in enumerate(keys) if key in recent)
        return found
