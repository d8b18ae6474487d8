"""What all of river's detectors are to the monitor: they see one value after the other, and alarm at some."""

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

_RUST = "river._river_rust"


class Sequential:
    """A detector at a level: the higher, the seldomer it alarms. `levels.py` tells how seldom.

    What it knows can be kept and taken up again by what its attributes are, nothing of it is code.
    """

    fields: ClassVar[tuple[str, ...]]
    """Attributes of river's object that change as values come."""

    def __init__(self, level: float, state: Mapping[str, Any] | None = None) -> None:
        """At its beginning, or where `state` says that it was."""
        self.detector: Any = self.made(level)
        for path, value in (state or {}).items():
            _put(self.detector, path, value)

    def made(self, level: float) -> Any:
        """River's object that alarms at this level."""
        raise NotImplementedError

    def update(self, value: float) -> bool:
        """Whether it alarms at this value; it begins anew with the next one then."""
        self.detector.update(value)
        return bool(self.detector.drift_detected)

    def state(self) -> dict[str, Any]:
        """What `__init__` takes: numbers, texts and lists of numbers."""
        return {path: _get(self.detector, path) for path in ("_drift_detected", *self.fields)}


def _get(owner: Any, path: str) -> Any:
    for name in path.split("."):
        owner = getattr(owner, name)
    if type(owner).__module__.startswith(_RUST):
        return owner.__getstate__().hex()
    return list(owner) if isinstance(owner, deque) else owner


def _put(owner: Any, path: str, value: Any) -> None:
    *way, name = path.split(".")
    for step in way:
        owner = getattr(owner, step)
    old = getattr(owner, name)
    if type(old).__module__.startswith(_RUST):
        old.__setstate__(bytes.fromhex(value))
    else:
        setattr(owner, name, deque(value, maxlen=old.maxlen) if isinstance(old, deque) else value)
