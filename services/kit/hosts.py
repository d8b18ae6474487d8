"""Whether an address is on this machine: the embedded issuer vouches for nobody beyond it."""

from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit


def elsewhere(bootstrap_servers: str = "", database: str = "") -> list[str]:
    """The hosts among Kafka's bootstrap servers and PostgreSQL's URL that are not this machine."""
    hosts = _database_hosts(database) or ["localhost"]
    hosts += [server.strip().rpartition(":")[0].strip("[]") for server in bootstrap_servers.split(",") if server]
    return sorted({host for host in hosts if not _is_this_machine(host)})


def _database_hosts(url: str) -> list[str]:
    """Every host of a PostgreSQL URL: a list of them, and those that its query names."""
    split = urlsplit(url)
    named = split.netloc.rpartition("@")[2].split(",") + parse_qs(split.query).get("host", [])
    hosts = [host for each in named for host in each.split(",") if host]
    return [host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0] for host in hosts]


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("/")
