"""Reference rows out of a package, in the sandbox: a stranger wrote the file."""

import io
import json
import zipfile
from collections.abc import Callable

import numpy as np

from services.kit.models.wire import pack

ENTRY = f"{__name__}:reader"
PRELOAD = ("pyarrow.parquet", "pyarrow.compute")


def reader(argument: bytes) -> Callable[[bytes], bytes]:
    """The sandbox's entry: `{"package", "training", "columns", "most"}` in, rows [m, columns] out, evenly spaced."""
    job = json.loads(argument)
    return lambda _: pack({"rows": rows(job["package"], job["training"], job["columns"], job["most"])})


def rows(package: str, training: str, columns: list[str], most: int) -> np.ndarray:
    """FP64; a missing value is NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with zipfile.ZipFile(package) as archive:
        table = pq.read_table(io.BytesIO(archive.read(training)), columns=columns)
    if table.num_rows > most:
        table = table.take(np.linspace(0, table.num_rows - 1, most).astype(np.int64))
    found = [pc.cast(table[name].combine_chunks(), pa.float64()).to_numpy(zero_copy_only=False) for name in columns]
    return np.column_stack(found)
