"""Where the embedded issuer may vouch for people: on one machine, whose home holds its key and everybody's tokens."""

from .hosts import elsewhere
from .kafka import Connection
from .settings import Settings
from .tokens import ONLY_HERE, OTHERWISE


class EmbeddedIssuer(Exception):
    """The embedded issuer would open a platform that is not on one machine; the message says what to do."""


def check_embedded(settings: Settings) -> None:
    """Raises EmbeddedIssuer where its tokens would open a platform that is not on one machine."""
    if settings.issuer or settings.allow_embedded_issuer:
        return
    servers = ""
    if settings.kafka_properties.is_file():
        servers = Connection.read(settings.kafka_properties).properties["bootstrap.servers"]
    if beyond := elsewhere(servers, settings.service_database):
        raise EmbeddedIssuer(f"{', '.join(beyond)} is another machine. {ONLY_HERE}. {OTHERWISE}")
