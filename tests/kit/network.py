"""The way to Kafka, for tests that cut it."""

from collections.abc import Callable
from typing import Any, cast

from aiokafka import client as aiokafka_client


class Network:
    """The way of this process's clients to Kafka, which can be cut and mended."""

    def __init__(self) -> None:
        self._create: Callable[..., Any] = cast("Any", aiokafka_client).create_conn
        self._connections: list[Any] = []
        self._whole = True

    async def connect(self, *args: Any, **options: Any) -> Any:
        if not self._whole:
            raise ConnectionRefusedError("the network is cut")
        connection = await self._create(*args, **options)
        self._connections.append(connection)
        return connection

    def cut(self) -> None:
        self._whole = False
        for connection in self._connections:
            connection.close(reason=aiokafka_client.CloseReason.CONNECTION_BROKEN)
        self._connections.clear()

    def mend(self) -> None:
        self._whole = True
