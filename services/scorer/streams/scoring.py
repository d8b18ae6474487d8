"""A micro-batch through the model: plain one-row requests as one matrix, all others by the codec."""

from collections.abc import Sequence
from itertools import accumulate, takewhile

import numpy as np

from services.kit.errors import Busy, Refusal, Unavailable

from ..runtimes import Arrays
from ..runtimes.errors import TookTooLong
from ..served import Served
from ..v2 import Request
from ..v2.rows import Row, Rows
from ..v2.tensors import Array
from ..warmup import joinable
from .items import Item, in_pieces


class Scoring:
    """One version's way of reading, scoring and answering."""

    def __init__(self, served: Served) -> None:
        self.served = served
        said = {"model_name": served.origin.endpoint, "model_version": str(served.origin.version)}
        self._counted_s = served.lane.busy_s
        self._rows = Rows.of(served.schema, served.codec.matrix_name, said) if joinable(served.schema) else None

    def worked_s(self) -> float:
        """Seconds that the model worked since this was asked last, for whichever partition."""
        before, self._counted_s = self._counted_s, self.served.lane.busy_s
        return self._counted_s - before

    async def score(self, items: Sequence[Item]) -> None:
        """Give each item an answer or a refusal. Raises Busy or Unavailable: then ask again for those without."""
        if self._rows is not None:
            await self._plain(items, self._rows)
        await self._others([item for item in items if item.answer is None and item.refusal is None])

    async def _plain(self, items: Sequence[Item], rows: Rows) -> None:
        """What stays without an answer is left to the codec, which finds and names what is wrong."""
        plain: list[Item] = []
        numbers: list[Array] = []
        async for piece in in_pieces(items):
            asked, wide = rows.read([item.body for item in piece])
            numbers.append(wide)
            for item, row in zip(piece, asked, strict=True):
                if row is not None:
                    item.asked = row
                    plain.append(item)
        if not plain:
            return
        matrix, beyond = rows.matrix(np.concatenate(numbers))
        if beyond.any():
            plain = [item for item, wrong in zip(plain, beyond.tolist(), strict=True) if not wrong]
            matrix = matrix[~beyond]
        at = 0
        while at < len(plain):
            end = at + self.served.lane.call_rows
            part = plain[at:end]
            if await self._answer(part, matrix[at:end], rows):
                at += len(part)

    async def _answer(self, plain: list[Item], matrix: Array, rows: Rows) -> bool:
        """Answers whether nothing is left to do here: not where fewer rows are to be asked at a time."""
        try:
            outputs = await self.served.lane.run({rows.name: matrix}, len(plain))
        except (Busy, Unavailable):
            raise
        except TookTooLong as refusal:
            if len(plain) == 1:
                plain[0].refusal = refusal
            return len(plain) == 1
        except Refusal:
            return True
        asked = [item.asked for item in plain if isinstance(item.asked, Row)]
        answers = rows.answers([item.inference_id for item in plain], asked, outputs, self.served.origin.variant)
        for item, answer in zip(plain, answers or (), strict=answers is not None):
            item.answer = answer
        return True

    async def _others(self, items: list[Item]) -> None:
        good: list[Item] = []
        for item in items:
            try:
                item.asked = self.served.codec.decode(item.body)
                good.append(item)
            except Refusal as refusal:
                item.refusal = refusal
        await self._in_calls(good)

    async def _in_calls(self, items: list[Item]) -> None:
        """Of as many rows each as the model is known to answer in time."""
        while items:
            count = _fitting(items, self.served.lane.call_rows)
            await self._run(items[:count])
            items = items[count:]

    async def _run(self, items: list[Item]) -> None:
        """One call of the model for all; where it refuses, halves, so that none suffers for another."""
        asked = [item.asked for item in items if isinstance(item.asked, Request)]
        if not asked:
            return
        if len(items) > 1 and not joinable(self.served.schema):
            for item in items:
                await self._run([item])
            return
        try:
            rows = sum(request.rows for request in asked)
            outputs = await self.served.lane.run(_joined(asked), rows, params=asked[0].params)
        except (Busy, Unavailable):
            raise
        except Refusal as refusal:
            if len(items) == 1:
                items[0].refusal = refusal
                return
            half = len(items) // 2
            await self._in_calls(items[:half])
            await self._in_calls(items[half:])
            return
        self._encode(items, asked, outputs)

    def _encode(self, items: list[Item], asked: Sequence[Request], outputs: Arrays) -> None:
        first = 0
        for item, request in zip(items, asked, strict=True):
            # Alone, a request has all outputs, whatever their shape: such a model may not have a row dimension.
            own = outputs
            if len(asked) > 1:
                own = {name: values[first : first + request.rows] for name, values in outputs.items()}
                first += request.rows
            item.answer = self.served.codec.encode(request, own, item.inference_id).logged


def _fitting(items: Sequence[Item], most: int) -> int:
    """How many from the first on have `most` rows together, and set of the model what the first does; that always."""
    alike = takewhile(lambda item: item.params == items[0].params, items)
    rows = accumulate(item.rows for item in alike)
    return max(1, sum(1 for _ in takewhile(lambda total: total <= most, rows)))


def _joined(requests: Sequence[Request]) -> Arrays:
    if len(requests) == 1:
        return requests[0].arrays
    return {name: np.concatenate([request.arrays[name] for request in requests]) for name in requests[0].arrays}
