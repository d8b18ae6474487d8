"""What the contracts say that a service hears is what it subscribes to, no less and no more."""

import re
from pathlib import Path

import pytest

import services
from contracts import EVENTS, HEARS, SERVICES, Service

_ROOT = Path(services.__file__).parent
_NAMED = re.compile(r"^(\w+) = (\w+)\.topic\.name$", re.M)
_DOORS = (
    re.compile(r"\bon\((\w+), "),
    re.compile(r"(?:CompactedTopic|Following)\([^,()]+, (\w+)[,)]"),
    re.compile(r"BatchConsumer\([^\[]*\[(\w+)(?:\.topic\.name)?\]"),
    # The scorer's transactions, and the answers that it reads again.
    re.compile(r"\b(?:requested|imported) = (\w+)\.topic\."),
    re.compile(r"History\(\w+, (\w+)\.topic\."),
    re.compile(r"\btail\([^,()]+, (\w+)\.topic,"),
)
"""How a service comes to read a topic: only the kit opens consumers."""


def subscribed(service: Service) -> set[str]:
    """The names of the events that a service's code reads."""
    found: set[str] = set()
    for path in (_ROOT / service).rglob("*.py"):
        source = path.read_text()
        named = dict(_NAMED.findall(source))
        found |= {named.get(name, name) for door in _DOORS for name in door.findall(source)}
    return found


@pytest.mark.parametrize("service", [service for service in SERVICES if service != "console"])
def test_a_service_hears_what_it_subscribes_to(service: Service) -> None:
    assert subscribed(service) == {event.__name__ for event in HEARS[service]}


def test_the_console_shows_every_topic() -> None:
    assert set(HEARS["console"]) == set(EVENTS)
