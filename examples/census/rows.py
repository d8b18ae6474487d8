"""The world of the demo: real census rows as they arrive, and the ways in which they stop looking like 2015."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).parent / "data" / "census_employment_ma_2015_2017.parquet"
YEARS = (2015, 2016, 2017)
PENSION_AGE = 65
LABEL = "employed"
COLUMNS = (
    "AGEP", "SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG",
    "MIL", "ANC", "NATIVITY", "DEAR", "DEYE", "DREM", "SEX", "RAC1P",
)  # fmt: skip

YEARS_OF_SCHOOLING = np.array(
    [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12, 12, 13, 14, 14, 16, 18, 19, 21], dtype=np.int16
)
"""Years spent at school by the survey's SCHL code 0–24; all are valid SCHL codes too, so nothing refuses them."""


@dataclass(frozen=True)
class Request:
    """One V2 request, with what only the future knows: the label of each row."""

    body: dict[str, Any]
    ids: tuple[int, ...]
    labels: tuple[int, ...]


def year(wanted: int) -> pa.Table:
    """All rows of a survey year, in order, with `id`, `year` and the label."""
    return pq.read_table(DATA, filters=[("year", "=", wanted)])


def years() -> Iterator[tuple[int, pa.Table]]:
    """The survey years in order."""
    return ((each, year(each)) for each in YEARS)


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    """The same rows in random order: a stationary stream."""
    return table.take(np.random.default_rng(seed).permutation(table.num_rows))


def pensioners_first(table: pa.Table) -> pa.Table:
    """The same rows with everybody of 65 and more at the front: a region's pensioners arrive first."""
    old = table["AGEP"].to_numpy() >= PENSION_AGE
    return pa.concat_tables([table.filter(pa.array(old)), table.filter(pa.array(~old))])


def schooling_in_years(table: pa.Table) -> pa.Table:
    """The pipeline breaks quietly: SCHL arrives as years of schooling, no longer as the survey's code."""
    recoded = pa.array(YEARS_OF_SCHOOLING[table["SCHL"].to_numpy()])
    return table.set_column(table.schema.get_field_index("SCHL"), "SCHL", recoded)


def age_in_decades(table: pa.Table) -> pa.Table:
    """The pipeline breaks badly: AGEP arrives in decades; each is a valid age, and everybody looks like a child."""
    decades = pa.array(table["AGEP"].to_numpy() // 10)
    return table.set_column(table.schema.get_field_index("AGEP"), "AGEP", decades)


def matrix(table: pa.Table) -> np.ndarray:
    """The model's input X: float32 [rows, 16]."""
    return np.column_stack([table[name].to_numpy() for name in COLUMNS]).astype(np.float32)


def requests(table: pa.Table, rows: int = 1) -> Iterator[Request]:
    """V2 requests of `rows` rows each, the last one shorter; a request of one row names its entity."""
    data, ids, labels = matrix(table), table["id"].to_numpy(), table[LABEL].to_numpy()
    for start in range(0, len(data), rows):
        part = slice(start, start + rows)
        yield Request(infer_body(data[part], ids[part]), tuple(ids[part].tolist()), tuple(labels[part].tolist()))


def infer_body(data: np.ndarray, ids: np.ndarray) -> dict[str, Any]:
    """One Open Inference Protocol V2 request over rows of the matrix."""
    tensor = {"name": "X", "datatype": "FP32", "shape": list(data.shape), "data": data.ravel().tolist()}
    body: dict[str, Any] = {"inputs": [tensor]}
    if len(ids) == 1:
        body["parameters"] = {"entity": str(ids[0])}
    return body


def write_parquet(table: pa.Table, path: Path) -> None:
    """A file for batch scoring or training: columns, label, id and year."""
    pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")
