"""Where the embedded issuer may vouch for people: on one machine, whose home holds its key and everybody's tokens."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from .kafka import Connection
from .settings import Settings
from .tokens import ONLY_HERE, OTHERWISE


class EmbeddedIssuer(Exception):
    """The embedded issuer would open a platform that is not on one machine; the message says what to do."""


def check_embedded(settings: Settings) -> None:
    """Raises EmbeddedIssuer where its tokens would open a platform that is not on one machine."""
    if settings.issuer or settings.allow_embedded_issuer:
        return
    hosts = [urlsplit(settings.service_database).hostname or "localhost"]
    if settings.kafka_properties.is_file():
        servers = Connection.read(settings.kafka_properties).properties.get("bootstrap.servers", "")
        hosts += [server.rpartition(":")[0].strip("[]") for server in servers.split(",") if server]
    if beyond := sorted({host for host in hosts if not _is_this_machine(host)}):
        raise EmbeddedIssuer(f"{', '.join(beyond)} is another machine. {ONLY_HERE}. {OTHERWISE}")


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("/")
