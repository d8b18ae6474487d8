"""How the versions of endpoints are read, for inferences that were made elsewhere."""

from contracts import DeploymentChanged, Variant

from ..tokenise import Tokeniser
from ..v2 import Codec

_MOST = 256


class Codecs:
    """A codec of each version, made once."""

    def __init__(self, tokeniser: Tokeniser) -> None:
        self._tokeniser = tokeniser
        self._made: dict[tuple[str, int, int], Codec] = {}

    def of(self, endpoint: DeploymentChanged, variant: Variant) -> Codec:
        """Of a version as this revision of its endpoint has it."""
        key = (endpoint.endpoint, endpoint.revision, variant.version)
        if key not in self._made:
            if len(self._made) >= _MOST:
                self._made.clear()
            self._made[key] = Codec(
                variant.model_schema, endpoint.endpoint, str(variant.version), variant.name, self._tokeniser.token
            )
        return self._made[key]
