"""Whether an address is on this machine: the embedded issuer vouches for nobody beyond it."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def elsewhere(bootstrap_servers: str = "", database: str = "") -> list[str]:
    """The hosts among Kafka's bootstrap servers and PostgreSQL's URL that are not this machine."""
    hosts: list[str] = [urlsplit(database).hostname or "localhost"]
    hosts += [server.strip().rpartition(":")[0].strip("[]") for server in bootstrap_servers.split(",") if server]
    return sorted({host for host in hosts if not _is_this_machine(host)})


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("/")
