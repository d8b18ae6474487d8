"""The recorded rows as Parquet files: named by the offsets that they hold, so that writing again changes nothing."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from services.kit.settings import Settings


class Files:
    """`data/recorder/inferences/endpoint=…/version=…/date=…/…` below the home: partitions that DuckDB and Spark know."""

    _KEPT = 16

    def __init__(self, settings: Settings) -> None:
        self._root = settings.home / "data" / "recorder" / "inferences"
        self._open: OrderedDict[str, pa.Table] = OrderedDict()

    async def write(self, facts: Mapping[str, Any], partition: int, first: int, last: int, table: pa.Table) -> str:
        """Write the rows of one endpoint and version; answers the file's path below the root."""
        folder = f"endpoint={facts['endpoint']}/version={facts['version']}/date={facts['received_at']:%Y-%m-%d}"
        name = f"{folder}/p{partition}-{first:012d}-{last:012d}.parquet"
        await asyncio.to_thread(self._write, self._root / name, table)
        self._open.pop(name, None)
        return name

    @staticmethod
    def _write(path: Path, table: pa.Table) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        pq.write_table(table, part, compression="zstd")
        part.replace(path)

    async def rows(self, path: str, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Some rows of a file, as dictionaries, in the order asked for."""
        return (await self.table(path)).take(pa.array(numbers, pa.int64())).to_pylist()

    async def table(self, path: str) -> pa.Table:
        """All rows of a file; the last few files stay in memory."""
        if path not in self._open:
            table = await asyncio.to_thread(pq.read_table, self._root / path, partitioning=None)
            self._open[path] = table
            while len(self._open) > self._KEPT:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path]
