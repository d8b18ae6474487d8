"""Models that another server answers for, over a connection that an administrator approved."""

import asyncio

from contracts import ModelSchema
from services.kit.connections import Connections
from services.kit.errors import Invalid, Unavailable
from services.kit.models.external import External, ExternalModel, RemoteRefused
from services.kit.models.sandboxed import asked_of
from services.kit.models.wire import WireError

from ..packages import ModelFile
from ..settings import ScorerSettings
from . import Arrays
from .declared import manifest_of
from .errors import CannotLoad, ModelFailed


class ExternalRuntime:
    """One version that is asked elsewhere; of what comes back only what fits its schema is taken."""

    calls = 8
    cpu_s = 0.0
    rss = 0

    def __init__(self, model: ExternalModel) -> None:
        self._model = model

    @classmethod
    async def start(
        cls, model: ModelFile, schema: ModelSchema, settings: ScorerSettings, unit: str
    ) -> "ExternalRuntime":  # fmt: skip
        """See that it may be asked; it is asked with the first request. Raises CannotLoad, Unavailable."""
        try:
            external = External.of(manifest_of(model))
        except (KeyError, TypeError):
            raise CannotLoad("the package's fairlead.yaml does not say where the model is") from None
        made = ExternalModel(external, asked_of(schema), Connections.of(settings), unit)
        try:
            await made.start()
        except Invalid as error:
            raise CannotLoad(error.message) from None
        return cls(made)

    async def call(self, inputs: Arrays, params: bytes = b"") -> Arrays:
        """There are no `params`: a package of this format declares none."""
        try:
            return await self._model.predict(inputs)
        except RemoteRefused:
            # Its own words may hold values of the input: they stay here.
            raise ModelFailed("the model does not take this input", "its server refused the input") from None
        except WireError:
            raise ModelFailed("the model's server does not answer this input as its schema says") from None
        except Invalid as error:  # the connection was approved when this was loaded: no fault of the input's
            raise Unavailable(error.message) from None

    @property
    def down(self) -> str:
        return self._model.down

    @property
    def away(self) -> str:
        return self._model.away

    def close(self) -> None:
        self._closing = asyncio.ensure_future(self._model.close())
