"""Away: a part that a service needs does not answer now. It delays work, and is no record's or caller's fault."""

from . import db, kafka
from .errors import Unavailable


def is_away(error: BaseException) -> bool:
    """Whether Kafka, PostgreSQL, the object store or another service is away; what failed of it is tried again."""
    return isinstance(error, Unavailable) or kafka.is_away(error) or db.is_away(error)
