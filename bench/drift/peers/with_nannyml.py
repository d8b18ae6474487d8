"""NannyML over windows of 1,000 rows: distances of Jensen-Shannon by column (its default) and the error of PCA's
reconstruction (its detector of many columns together)."""

import os
import sys
import warnings

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
warnings.filterwarnings("ignore")

import nannyml  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

WINDOW = 1_000


def plain(streams, names, wanted):
    """Of each window of one stream: share of missing values of the first column, KS of the second."""
    before, now = (pd.DataFrame(streams[key][0], columns=names) for key in ("reference", "rows"))
    missing = nannyml.MissingValuesCalculator(column_names=names[:1], normalize=True, chunk_size=WINDOW)
    missing.fit(before)
    share = missing.calculate(now).filter(period="analysis").to_df()[names[0], "value"].to_numpy(float)
    drift = nannyml.UnivariateDriftCalculator(
        column_names=names[1:2], continuous_methods=["kolmogorov_smirnov"], chunk_size=WINDOW
    )  # fmt: skip
    drift.fit(before)
    told = drift.calculate(now).filter(period="analysis").to_df()
    distance = told[names[1], "kolmogorov_smirnov", "value"].to_numpy(float)
    np.savez(wanted, missing=share, ks=distance, ends=np.arange(len(share)))


def main(given, wanted, what="drift"):
    streams = np.load(given)
    names = [f"c{place}" for place in range(streams["rows"].shape[2])]
    if what == "plain":
        plain(streams, names, wanted)
        return

    def table(rows):
        made = pd.DataFrame(rows, columns=names)
        return made.astype(dict.fromkeys(names[-2:], "int")).astype(dict.fromkeys(names[-2:], "category"))

    distances, errors = [], []
    for reference, rows in zip(streams["reference"], streams["rows"], strict=True):
        before, now = table(reference), table(rows)
        by_column = nannyml.UnivariateDriftCalculator(
            column_names=names,
            treat_as_categorical=names[-2:],
            continuous_methods=["jensen_shannon"],
            categorical_methods=["jensen_shannon"],
            chunk_size=WINDOW,
        )
        by_column.fit(before)
        told = by_column.calculate(now).filter(period="analysis").to_df()
        largest = np.max([told[name, "jensen_shannon", "value"].to_numpy(float) for name in names], axis=0)
        distances.append(largest**2 * WINDOW)
        together = nannyml.DataReconstructionDriftCalculator(column_names=names, chunk_size=WINDOW)
        together.fit(before)
        told = together.calculate(now).to_df()
        known = told[told["chunk", "period"] == "reference"]["reconstruction_error", "value"].to_numpy(float)
        new = told[told["chunk", "period"] == "analysis"]
        error = new["reconstruction_error", "sampling_error"].to_numpy(float)
        errors.append(((new["reconstruction_error", "value"].to_numpy(float) - known.mean()) / error) ** 2)
    ends = np.arange(WINDOW, streams["rows"].shape[1] + 1, WINDOW)
    both = {"NannyML, Jensen-Shannon": np.array(distances), "NannyML, reconstruction": np.array(errors)}
    np.savez(wanted, ends=ends, **both)


main(*sys.argv[1:])
