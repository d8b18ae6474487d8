"""alibi-detect's tests of windows of 1,000 rows by column (TabularDrift): Kolmogorov-Smirnov and chi squared."""

import sys
import warnings

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
from alibi_detect.cd import TabularDrift  # noqa: E402

WINDOW = 1_000


def tests(reference, rows):
    detector = TabularDrift(reference, categories_per_feature={rows.shape[1] - 2: None, rows.shape[1] - 1: None})
    for at in range(0, len(rows), WINDOW):
        told = detector.predict(rows[at : at + WINDOW], drift_type="feature")
        yield -np.log(max(float(np.min(told["data"]["p_val"])), 1e-38))


def main(given, wanted):
    streams = np.load(given)
    references, streams = streams["reference"].astype(np.float32), streams["rows"].astype(np.float32)
    found = [[*tests(reference, rows)] for reference, rows in zip(references, streams, strict=True)]
    ends = np.arange(WINDOW, streams.shape[1] + 1, WINDOW)
    np.savez(wanted, ends=ends, **{"alibi-detect, tests": np.array(found)})


main(*sys.argv[1:])
