"""The local log of one worker slot: what is accepted is here before the reply, and in Kafka a moment later."""

from .segment import Entry, Parsed, SegmentReader, aside, parse, segments
from .writer import Spool, SpoolFull

__all__ = ["Entry", "Parsed", "SegmentReader", "Spool", "SpoolFull", "aside", "parse", "segments"]
