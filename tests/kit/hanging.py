"""A Kafka client that hangs."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer


class Hanging:
    """Once `begin` is set, the first consumer that makes one of these calls hangs in it, and no other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begin, self.hangs = asyncio.Event(), asyncio.Event()
        self._first: AIOKafkaConsumer | None = None
        self._patch = monkeypatch

    def at(self, call: str) -> None:
        whole: Callable[..., Any] = getattr(AIOKafkaConsumer, call)

        async def hang(consumer: AIOKafkaConsumer, *args: Any, **options: Any) -> Any:
            if self.begin.is_set():
                self._first = self._first or consumer
            if self.has(consumer):
                self.hangs.set()
                consumer._closed = call == "stop"  # as the real one does
                await asyncio.Event().wait()
            return await whole(consumer, *args, **options)

        self._patch.setattr(AIOKafkaConsumer, call, hang)

    def has(self, consumer: AIOKafkaConsumer) -> bool:
        """Whether this is the one that hangs now."""
        return self.begin.is_set() and consumer is self._first
