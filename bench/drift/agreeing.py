"""Plain statistics of the same windows: what the monitor tells beside what Evidently and NannyML compute.

The monitor's are those of its reports: the stability index of a column of classes and the share of missing values. Of
Kolmogorov and Smirnov, which it does not use, scipy's is compared: that the windows that the peers see are the bench's.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from services.monitor.domain.effects import stability_index

from .others import WINDOW
from .peers.running import PEERS, statistics
from .streams import NUMBERS, Array, Stream


def measure() -> dict[str, Any]:
    """The largest difference of each over 12 windows, half of them moved, with missing values in one column."""
    reference, rows = _streams()
    windows = [rows[at : at + WINDOW] for at in range(0, len(rows), WINDOW)]
    ours = {
        "psi": np.array([_index(reference, window) for window in windows]),
        "missing": np.array([np.isnan(window[:, 0]).mean() for window in windows]),
        "ks": np.array([ks_2samp(reference[:, 1], window[:, 1]).statistic for window in windows]),  # pyright: ignore[reportAttributeAccessIssue]
        "ks_p": np.array([ks_2samp(reference[:, 1], window[:, 1]).pvalue for window in windows]),  # pyright: ignore[reportAttributeAccessIssue]
    }
    found: dict[str, Any] = {}
    for name in ("evidently", "nannyml"):
        _, told = statistics(replace(PEERS[name], arguments=("plain",)), [(reference, rows)])
        found[name] = {what: float(np.nanmax(np.abs(values - ours[what]))) for what, values in told.items()}
    return found | {"largest": {what: float(np.nanmax(values)) for what, values in ours.items()}}


def _streams() -> tuple[Array, Array]:
    random = np.random.default_rng(1)
    parts = [Stream(change, 77) for change in ("classes", "abrupt")]
    rows = np.concatenate([part.rows(-3 * WINDOW, 6 * WINDOW) for part in parts])
    rows[random.random(len(rows)) < 0.07, 0] = np.nan
    return parts[0].trained_on(), rows


def _index(reference: Array, window: Array) -> float:
    """The monitor's, with what chance adds to it put back: others do not take that off. NaN where nothing is left."""
    before, live = _classes(reference), _classes(window)
    size = stability_index(before, live)[0]
    return size + (len(live) - 1) * (1 / len(reference) + 1 / len(window)) if size > 0 else np.nan


def _classes(rows: Array) -> Array:
    return np.bincount(rows[:, NUMBERS].astype(int), minlength=5).astype(float)
