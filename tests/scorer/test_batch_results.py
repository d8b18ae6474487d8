"""The result file of a batch: whole, whatever versions answered, and never in memory as a whole."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scorer.batches.results import ResultFile, unified
from services.scorer.batches.summary import Decisions


def part(prediction: Any, rows: int, **more: Any) -> pa.Table:
    return pa.table({"input_row": list(range(rows)), "prediction": prediction} | more)


def written(path: Path, *parts: pa.Table) -> pq.ParquetFile:
    with ResultFile(path, unified(p.schema for p in parts)) as file:
        for one in parts:
            sink = io.BytesIO()
            pq.write_table(one, sink)
            file.add(sink.getvalue())
    return pq.ParquetFile(path)


def test_predictions_of_several_types_meet_in_the_wider_one(tmp_path: Path) -> None:
    whole, fractions = part([1, 0], 2), part([0.5, None], 2)
    nothing = part(pa.nulls(1), 1)
    assert written(tmp_path / "a", whole, nothing, fractions).read()["prediction"].to_pylist() == [
        1,
        0,
        None,
        0.5,
        None,
    ]
    texts = part(["yes"], 1, score=[0.9])
    table = written(tmp_path / "b", whole, texts).read()
    assert table["prediction"].to_pylist() == ["1", "0", "yes"]
    assert table["score"].to_pylist() == [None, None, 0.9]


def test_a_large_result_is_written_group_by_group(tmp_path: Path) -> None:
    file = written(tmp_path / "a", *[part([1] * 40_000, 40_000) for _ in range(7)])
    assert file.metadata.num_rows == 280_000
    assert file.metadata.num_row_groups == 3


@given(st.integers(0, 10**6), st.sampled_from([0.0, -1e6, 1e9]), st.lists(st.integers(0, 400), max_size=6))
def test_the_deviation_of_predictions_is_right_however_far_from_zero_and_however_cut(
    seed: int, offset: float, sizes: list[int]
) -> None:
    values = np.random.default_rng(seed).normal(offset, 1.0, 200 + sum(sizes))
    decisions = Decisions()
    for piece in np.split(values, np.cumsum(sizes)):
        rows = len(piece)
        decisions.add(
            part(piece, rows, score=piece, error=pa.nulls(rows, pa.string()), model_version=[1] * rows)
        )  # fmt: skip
    said = decisions.said()
    for moments in (said["prediction"], said["score"]):
        assert moments["sd"] == pytest.approx(values.std(), rel=1e-6)
        assert moments["mean"] == pytest.approx(values.mean(), rel=1e-12, abs=1e-12)
        assert (moments["minimum"], moments["maximum"]) == (values.min(), values.max())
