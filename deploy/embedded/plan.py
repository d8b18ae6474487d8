"""Which parts this installation has: its own Kafka and PostgreSQL or somebody else's, and the services."""

import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from contracts import Service
from services.kit.hosts import elsewhere
from services.kit.settings import PORT_ORDER
from services.kit.tokens import ONLY_HERE, OTHERWISE

from . import postgres, secrets
from .home import ROOT, Home, write_private
from .part import Part
from .problem import Problem

_SERVER = r"(?:\[[0-9A-Fa-f:.]+\]|[^\s/,:\[\]]+):\d+"
_BOOTSTRAP = re.compile(f"{_SERVER}(,{_SERVER})*")
_ADMINISTRATORS_OWN = ("FAIRLEAD_DATABASE", "FAIRLEAD_KAFKA", "FAIRLEAD_KAFKA_PROPERTIES")

# Eight processes on a small machine: few allocator arenas, no pool of threads for each of two cores.
_FRUGAL = {"MALLOC_ARENA_MAX": "2", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Outside:
    """What the environment gives instead of an embedded part; None: embedded."""

    kafka: Mapping[str, str] | None = None
    database: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Outside":
        """Raises Problem for a value that names nothing."""
        kafka, database = environment.get("FAIRLEAD_KAFKA"), environment.get("FAIRLEAD_DATABASE")
        if database and (why := _no_database(database)):
            raise Problem(
                f"FAIRLEAD_DATABASE cannot be used: {why}",
                "Give postgresql://administrator:password@host:5432/fairlead, or unset it for the embedded PostgreSQL.",
            )
        return cls(_kafka_properties(kafka) if kafka else None, database or None, environment)

    @property
    def issuer(self) -> str:
        """The OIDC issuer that vouches for people; empty: the embedded one."""
        return self.environment.get("FAIRLEAD_ISSUER", "")

    def check_issuer(self) -> None:
        """Raises Problem where the embedded issuer would vouch for people beyond this machine."""
        allowed = self.environment.get("FAIRLEAD_ALLOW_EMBEDDED_ISSUER", "").lower() in ("1", "true", "yes", "on")
        beyond = elsewhere((self.kafka or {}).get("bootstrap.servers", ""), self.database or "")
        if beyond and not self.issuer and not allowed:
            raise Problem(f"{', '.join(beyond)} is another machine. {ONLY_HERE}", OTHERWISE)

    @property
    def database_host(self) -> str:
        return urlsplit(self.database or "").netloc.rpartition("@")[2]


def _no_database(url: str) -> str:
    """Why a URL names no database of PostgreSQL; empty where it does. The reason holds no part of a password."""
    try:
        split = urlsplit(url)
    except ValueError:
        return "it is no URL"
    if split.scheme not in ("postgresql", "postgres") or not split.path[1:]:
        return "it is not a PostgreSQL URL with a database"
    if split.netloc.count("@") > 1:
        return "an @ in its password is written %40"
    return "" if all(port.isdecimal() for port in _ports(split.netloc)) else "its port is no number"


def _ports(netloc: str) -> list[str]:
    return [
        port for each in netloc.rpartition("@")[2].split(",") if (port := each.rpartition("]")[2].partition(":")[2])
    ]


def _kafka_properties(given: str) -> dict[str, str]:
    path = Path(given)
    if path.is_file():
        try:
            properties = secrets.read_properties(path)
        except (OSError, ValueError) as error:
            raise Problem(
                f"{path} cannot be read: {error}", "Give librdkafka's client properties in FAIRLEAD_KAFKA."
            ) from None
        if properties.get("bootstrap.servers"):
            return properties
        raise Problem(f"{path} names no bootstrap.servers", "Give librdkafka's client properties in FAIRLEAD_KAFKA.")
    if _BOOTSTRAP.fullmatch(given):
        return {"bootstrap.servers": given, "security.protocol": "PLAINTEXT"}
    raise Problem(
        f"FAIRLEAD_KAFKA={given} is neither host:port nor a file",
        "Give bootstrap servers or the path of a client properties file, or unset it for the embedded Kafka.",
    )


def write_clients(home: Home, outside: Outside) -> None:
    """The client properties of every principal."""
    if outside.kafka is None:
        secrets.write_embedded_clients(home)
        return
    own = "".join(f"{name}={value}\n" for name, value in outside.kafka.items())
    write_private(administrator_properties(home, outside), own)
    shared = dict(outside.kafka)
    if shared.get("sasl.mechanism", shared.get("sasl.mechanisms", "")).startswith("SCRAM"):
        # Then the cluster keeps passwords for principals of our own; otherwise all share the one login given.
        shared = {name: value for name, value in shared.items() if name not in ("sasl.username", "sasl.password")}
    secrets.write_clients(home, shared)


def administrator_properties(home: Home, outside: Outside) -> Path:
    return home.client_properties(secrets.ADMINISTRATOR if outside.kafka else secrets.LAUNCHER)


def bootstrap_servers(home: Home, outside: Outside) -> str:
    return outside.kafka["bootstrap.servers"] if outside.kafka else f"127.0.0.1:{home.kafka_port}"


def database_url(home: Home, outside: Outside) -> str:
    return outside.database or postgres.administrator_url(home)


def tool_environment(home: Home, outside: Outside) -> dict[str, str]:
    """For `services.kit.provision` and `services.kit.migrate`, which act as the administrator."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "FAIRLEAD_HOME": str(home.path),
        "FAIRLEAD_KAFKA_PROPERTIES": str(administrator_properties(home, outside)),
        "FAIRLEAD_KAFKA_WITHIN_S": "10" if outside.kafka else "120",
        "FAIRLEAD_DATABASE": database_url(home, outside),
    }


def chosen_services(outside: Outside) -> list[Service]:
    """All services that exist, or those that `FAIRLEAD_SERVICES` names. Raises Problem for one that does not."""
    existing: list[Service] = [name for name in PORT_ORDER if (ROOT / "services" / name / "__main__.py").exists()]
    named = outside.environment.get("FAIRLEAD_SERVICES")
    if named is None:
        return existing
    asked = {name.strip() for name in named.split(",") if name.strip()}
    if unknown := asked - set(existing):
        raise Problem(f"FAIRLEAD_SERVICES names {', '.join(sorted(unknown))}", f"There are: {', '.join(existing)}.")
    return [name for name in existing if name in asked]


def service_part(home: Home, outside: Outside, service: Service) -> Part:
    """A service, with its own login to Kafka and to PostgreSQL and nobody else's."""
    inherited = {name: value for name, value in outside.environment.items() if name not in _ADMINISTRATORS_OWN}
    given = {
        "PYTHONPATH": str(ROOT),
        "FAIRLEAD_HOME": str(home.path),
        "FAIRLEAD_PORT": str(home.port),
        "FAIRLEAD_KAFKA_PROPERTIES": str(home.client_properties(service)),
        "FAIRLEAD_SERVICE_DATABASE": secrets.database_urls(home)[service],
    }
    port = home.port_of(service)
    return Part(
        name=service,
        argv=(sys.executable, "-m", f"services.{service}"),
        environment={**_FRUGAL, **inherited, **given},
        folder=ROOT,
        log=home.logs / f"{service}.log",
        ready=lambda _: is_ready(port),
        address=home.url(service),
    )


def is_ready(port: int) -> bool:
    """Whether the service there says that it can do its work."""
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def port_taken(port: int) -> bool:
    """Whether nobody else could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
