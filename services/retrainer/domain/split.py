"""Which recorded rows teach and which judge: by hash, so that the same rows always fall the same way."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

_ENOUGH_INFERENCES = 100


def held_out(inference_ids: Sequence[str], seed: str, share: float) -> np.ndarray:
    """A mask [rows] of the rows to hold out.

    Rows of one inference go the same way, so that a caller's near copies never sit on both sides; where there are
    too few inferences for that (a batch in one record), each row goes its own way.
    """
    keys = inference_ids if len(set(inference_ids)) >= _ENOUGH_INFERENCES else _numbered(inference_ids)
    return np.fromiter((_place(key, seed) < share for key in keys), bool, len(inference_ids))


def _place(key: str, seed: str) -> float:
    """A number in [0, 1) that depends on key and seed alone."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, key=hashlib.sha256(seed.encode()).digest()).digest()
    return int.from_bytes(digest) / 2**64


def _numbered(inference_ids: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    keys = []
    for id in inference_ids:
        keys.append(f"{id}#{seen[id]}")
        seen[id] += 1
    return keys
