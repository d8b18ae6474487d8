"""Evidently's drift of values by column over windows of 1,000 rows: the least p, Kolmogorov-Smirnov and chi squared."""

import sys
import warnings

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import MissingValueCount, ValueDrift

WINDOW = 1_000
warnings.filterwarnings("ignore")


def plain(streams, wanted):
    """Of each window of one stream: index of the last column but one, share of missing values of the first, p of KS of
    the second."""
    names = [f"c{place}" for place in range(streams["rows"].shape[2])]
    shape = DataDefinition(numerical_columns=names[:-2], categorical_columns=names[-2:])
    report = Report([
        ValueDrift(column=names[-2], method="psi"), MissingValueCount(column=names[0]),
        ValueDrift(column=names[1], method="ks"),
    ])  # fmt: skip
    before = Dataset.from_pandas(pd.DataFrame(streams["reference"][0], columns=names), data_definition=shape)
    found = []
    for at in range(0, streams["rows"].shape[1], WINDOW):
        window = pd.DataFrame(streams["rows"][0, at : at + WINDOW], columns=names)
        told = report.run(Dataset.from_pandas(window, data_definition=shape), before).dict()["metrics"]
        found.append([told[0]["value"], told[1]["value"]["share"], told[2]["value"]])
    psi, missing, ks = np.array(found, float).T
    np.savez(wanted, psi=psi, missing=missing, ks_p=ks, ends=np.arange(len(psi)))


def main(given, wanted, what="tests"):
    streams = np.load(given)
    if what == "plain":
        plain(streams, wanted)
        return
    names = [f"c{place}" for place in range(streams["rows"].shape[2])]
    numbers, classes = names[:-2], names[-2:]
    shape = DataDefinition(numerical_columns=numbers, categorical_columns=classes)
    report = Report([ValueDrift(column=c, method="ks" if c in numbers else "chisquare") for c in names])

    def least(reference, window):
        told = report.run(Dataset.from_pandas(window, data_definition=shape), reference).dict()
        return min(float(metric["value"]) for metric in told["metrics"])

    found = []
    for reference, rows in zip(streams["reference"], streams["rows"], strict=True):
        before = Dataset.from_pandas(pd.DataFrame(reference, columns=names), data_definition=shape)
        windows = [pd.DataFrame(rows[at : at + WINDOW], columns=names) for at in range(0, len(rows), WINDOW)]
        found.append([-np.log(max(least(before, window), 1e-300)) for window in windows])
    ends = np.arange(WINDOW, streams["rows"].shape[1] + 1, WINDOW)
    np.savez(wanted, ends=ends, **{"Evidently, tests": np.array(found)})


main(*sys.argv[1:])
