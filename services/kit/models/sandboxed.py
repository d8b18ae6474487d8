"""A model behind the sandbox's walls, as whoever asks it sees it."""

import json
from pathlib import Path

from contracts import ModelSchema
from services.kit.sandbox import Sandbox

from . import Asked, Told, is_code, preload
from .wire import Tensors, question, unpack
from .worker import ENTRY, STRUCTURE, Opening

_MB = 1024 * 1024


def asked_of(schema: ModelSchema) -> Asked:
    """What a registered schema says of a model that is opened again."""
    return Asked(
        columns=[column.name for column in schema.columns], prediction=schema.prediction, score=schema.score,
        inputs=[spec.model_dump() for spec in schema.inputs], outputs=[spec.model_dump() for spec in schema.outputs],
    )  # fmt: skip


class SandboxedModel:
    """One warm worker for one model. Its methods raise the sandbox's errors, and WireError for what is no answer."""

    def __init__(
        self, opening: Opening, *, packages: Path | None, memory_mb: int, deadline_s: float, load_s: float, name: str,
        once: bool = False,
    ) -> None:  # fmt: skip
        """`packages`: the folder of the libraries that it brings; `once`: it is asked a few times and closed."""
        path = Path(opening.path)
        room_mb = 4 * (path.stat().st_size // _MB) if is_code(opening.format) else 0
        self.sandbox = Sandbox(
            ENTRY, opening.to_json(), preload=preload(opening.format), packages=packages, readable=[path],
            memory_mb=memory_mb, disk_mb=1024 + room_mb, deadline_s=deadline_s, load_s=load_s, name=name, once=once,
        )  # fmt: skip

    async def start(self) -> None:
        """Open it."""
        await self.sandbox.start()

    async def told(self) -> Told:
        """What it says of itself; nothing of it is believed. Raises WireError too."""
        return Told(**json.loads(await self.sandbox.call(b"")))

    async def predict(self, inputs: Tensors, params: bytes = b"") -> Tensors:
        """All outputs for all inputs. `params`: what is set of the model for this call, a JSON object or nothing.

        Raises WireError too: what comes out of a sandbox is not believed.
        """
        return unpack(await self.sandbox.call(question(inputs, params)))

    async def structure(self) -> Tensors:
        """Its trees or coefficients, as `nodes.py` says; nothing for a model that has none. Raises WireError too."""
        return unpack(await self.sandbox.call(STRUCTURE))

    async def close(self) -> None:
        """End the worker."""
        await self.sandbox.close()
