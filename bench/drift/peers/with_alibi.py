"""alibi-detect: tests of windows of 1,000 rows (TabularDrift), and, row by row, its online detectors of Cramer and von
Mises by column, of the maximum mean discrepancy and of the difference of densities, over windows of 100 rows."""

import os
import sys
import warnings

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
from alibi_detect.cd import CVMDriftOnline, LSDDDriftOnline, MMDDriftOnline, TabularDrift  # noqa: E402

WINDOW, RECENT, KNOWN, FEWER, PIECE = 1_000, 100, 2_000, 1_000, 100
"""Online detectors know so many rows of the reference (those of all columns together fewer); the strongest of each
`PIECE` rows is told."""
_OWN = {"ert": 100, "verbose": False}
"""Its own threshold for a run length that a thousand draws can tell is taken as a scale; the budget's is found as
for all others."""


def tests(reference, rows):
    detector = TabularDrift(reference, categories_per_feature={rows.shape[1] - 2: None, rows.shape[1] - 1: None})
    for at in range(0, len(rows), WINDOW):
        told = detector.predict(rows[at : at + WINDOW], drift_type="feature")
        yield -np.log(max(float(np.min(told["data"]["p_val"])), 1e-38))


def online(detector, rows):
    strongest = -np.inf
    for number, row in enumerate(rows, 1):
        told = detector.predict(row)["data"]
        threshold = np.asarray(told["threshold"], float)
        if threshold.size and np.isfinite(threshold).any():
            strongest = max(strongest, float(np.nanmax(np.asarray(told["test_stat"], float) / threshold)))
        if number % PIECE == 0:
            yield strongest
            strongest = -np.inf


def cvm(reference):
    return CVMDriftOnline(reference[:KNOWN], window_sizes=[RECENT], n_bootstraps=5_000, **_OWN)


def mmd(reference):
    return MMDDriftOnline(reference[:FEWER], window_size=RECENT, n_bootstraps=5_000, backend="tensorflow", **_OWN)


def lsdd(reference):
    return LSDDDriftOnline(reference[:FEWER], window_size=RECENT, n_bootstraps=5_000, backend="tensorflow", **_OWN)


ONLINE = {
    "cvm": ("alibi-detect, CVM online", cvm),
    "mmd": ("alibi-detect, MMD online", mmd),
    "lsdd": ("alibi-detect, LSDD online", lsdd),
}


def main(given, wanted, which):
    streams = np.load(given)
    references, streams = streams["reference"].astype(np.float32), streams["rows"].astype(np.float32)
    if which == "tests":
        name, ends = "alibi-detect, tests", np.arange(WINDOW, streams.shape[1] + 1, WINDOW)
        found = [[*tests(reference, rows)] for reference, rows in zip(references, streams, strict=True)]
    else:
        (name, make), ends = ONLINE[which], np.arange(PIECE, streams.shape[1] + 1, PIECE)
        found = [[*online(make(reference), rows)] for reference, rows in zip(references, streams, strict=True)]
    np.savez(wanted, ends=ends, **{name: np.array(found)})


main(*sys.argv[1:])
