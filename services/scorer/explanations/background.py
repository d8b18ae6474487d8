"""Reference rows out of a package, in the sandbox: a stranger wrote the file."""

import io
import json
import zipfile
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from services.kit.models.wire import Tensors, pack

ENTRY = f"{__name__}:reader"
PRELOAD = ("pyarrow.parquet", "pyarrow.compute")


def reader(argument: bytes) -> Callable[[bytes], bytes]:
    """The sandbox's entry: `{"package", "training", "columns", "texts", "most"}` in, what `rows` says out."""
    job = json.loads(argument)
    return lambda _: pack(rows(job["package"], job["training"], job["columns"], job["texts"], job["most"]))


def rows(package: str, training: str, columns: Sequence[str], texts: Collection[str], most: int) -> Tensors:
    """`rows` [m, columns] (FP64), evenly spaced; a missing value is NaN. In the columns that are `texts` they are
    places in `classes.<number of the column>` (BYTES)."""
    import pyarrow.parquet as pq

    with zipfile.ZipFile(package) as archive:
        table = pq.read_table(io.BytesIO(archive.read(training)), columns=list(dict.fromkeys(columns)))
    if table.num_rows > most:
        table = table.take(np.linspace(0, table.num_rows - 1, most).astype(np.int64))
    found: list[np.ndarray] = []
    said: Tensors = {}
    for place, name in enumerate(columns):
        column = table[name].combine_chunks()
        if name in texts:
            column, said[f"classes.{place}"] = _classes(column)
        found.append(_numbers(column))
    return said | {"rows": np.column_stack(found)}


def _classes(column: Any) -> tuple[Any, np.ndarray]:
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    known = np.empty(len(column.dictionary), object)
    known[:] = [each.encode() if isinstance(each, str) else each for each in column.dictionary.to_pylist()]
    return column.indices, known


def _numbers(column: Any) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
