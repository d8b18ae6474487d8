"""Libraries that models bring along: locked by hash, installed once for each lock, shared by all that have the same.

Nothing of a package runs while it is installed: wheels only, each with the hash that the lock names. They come from
where the operator's `uv` finds packages, never from an address that a requirement names. What they hold is imported in
the sandbox only.
"""

from .environments import Environments
from .locks import FIELD, LOCK, Pin, check_complete, completed, is_lock, key, pins, requirements
from .tool import lock

__all__ = [
    "FIELD", "LOCK", "Environments", "Pin", "check_complete", "completed", "is_lock", "key", "lock", "pins",
    "requirements",
]  # fmt: skip
