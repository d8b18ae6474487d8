"""The entry of the tests of slow models: a classifier of three columns that takes its time for each row."""

import json
import time
from collections.abc import Callable

import numpy as np

from services.kit.models.wire import pack, unpack


def slow(argument: bytes) -> Callable[[bytes], bytes]:
    """`argument`: seconds for each row, and the value of a first column over which it never ends, as JSON."""
    row_s, endless = json.loads(argument)

    def answer(payload: bytes) -> bytes:
        matrix = unpack(payload)["X"]
        if (matrix[:, 0] == endless).any():
            time.sleep(1_000)
        time.sleep(row_s * len(matrix))
        labels = (matrix.sum(axis=1) > 0).astype(np.int64)
        return pack({"label": labels, "probabilities": np.stack([1.0 - labels, labels], 1).astype(np.float32)})

    return answer
