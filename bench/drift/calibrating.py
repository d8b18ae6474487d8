"""`python -m bench.drift.calibrating`: the table in `services/monitor/domain/detectors/chosen/levels.py`.

For each detector a ladder of levels is shown the same stationary values, in runs that begin anew; how often each alarms
is counted, and a line laid through the logarithms.
"""

import sys

import numpy as np

from services.monitor.domain.detectors.chosen import COLUMNS, LABELS, kind

from . import level
from .streams import Array

_LADDERS: dict[str, tuple[tuple[float, ...], int]] = {
    "adwin": ((0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0), 1_000_000), "page-hinkley": ((5.0, 6.0, 7.0, 8.0, 9.0), 500_000),
    "kswin": ((4.0, 5.0, 6.0, 7.0), 30_000), "ddm": ((1.0, 1.5, 2.0, 3.0, 4.0), 300_000),
    "eddm": ((0.1, 0.2, 0.3, 0.4, 0.5), 1_000_000), "fhddm": ((10.0, 12.0, 14.0, 16.0, 18.0), 300_000),
    "hddm-a": ((1.0, 1.5, 2.0, 3.0, 4.0), 100_000), "hddm-w": ((1.0, 1.5, 2.0, 2.5, 3.0), 50_000),
}  # fmt: skip
"""Levels and values."""
_SHARES, _RUN = (0.02, 0.1, 0.3, 0.5), 50_000


def _alarms(name: str, at: float, values: Array) -> int:
    found = 0
    for begin in range(0, len(values), _RUN):
        detector = kind(name)(at)
        found += sum(detector.update(value) for value in values[begin : begin + _RUN].tolist())
    return found


def _line(name: str) -> tuple[float, float, list[int]]:
    levels, count = _LADDERS[name]
    random = np.random.default_rng(11)
    kinds = [random.normal(size=count)]
    if name in LABELS:
        kinds = [(random.random(count) < share).astype(int) for share in _SHARES]
    worst = [max(_alarms(name, at, values) for values in kinds) for at in levels]
    known = [(at, alarms / count) for at, alarms in zip(levels, worst, strict=True) if alarms >= level.LEAST_PASSED]
    return *level.line(*np.array(known).T), worst


if __name__ == "__main__":
    for each in sys.argv[1:] or (*COLUMNS, *LABELS):
        begin, fall, seen = _line(each)
        print(f'    "{each}": ({begin:.2f}, {fall:.3f}),  # alarms {seen}', flush=True)
