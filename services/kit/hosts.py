"""Whether an address is on this machine: the embedded issuer vouches for nobody beyond it."""

from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit


def elsewhere(bootstrap_servers: str = "", database: str = "") -> list[str]:
    """The hosts among Kafka's bootstrap servers and PostgreSQL's URL that are not this machine."""
    hosts = _database_hosts(database) or ["localhost"]
    hosts += [_host(server) for server in bootstrap_servers.split(",") if server.strip()]
    return sorted({host for host in hosts if not is_this_machine(host)})


def _database_hosts(url: str) -> list[str]:
    """Every host of a PostgreSQL URL: a list of them, and those that its query names."""
    split = urlsplit(url)
    named = split.netloc.rpartition("@")[2].split(",") + parse_qs(split.query).get("host", [])
    return [_host(host) for each in named for host in each.split(",") if host.strip()]


def _host(said: str) -> str:
    """The host of `host:port`, `[::1]:port`, or a host alone; nothing where only a port is said."""
    said = said.strip()
    if said.startswith("["):
        return said[1:].partition("]")[0]
    return said if said.count(":") > 1 else said.partition(":")[0]


def is_this_machine(host: str) -> bool:
    """Whether a host is loopback, or none at all (a Unix socket's folder)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "") or host.startswith("/")
