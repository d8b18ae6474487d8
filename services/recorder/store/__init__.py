"""All SQL of the recorder, by subject."""

from .files import (
    NewFile,
    Recorded,
    add_file,
    already_there,
    drop,
    files_of,
    forget,
    mark_placed,
    paths,
    removing,
    unplaced,
)
from .lookup import DecisionRow, Wanted, decision, decisions
from .reports import Kept, OutcomeRow, expired, labels, met, outcomes, reopen, report, settle, sizes
from .schemas import newest_schema, save_versions, schema

__all__ = [
    "DecisionRow", "Kept", "NewFile", "OutcomeRow", "Recorded", "Wanted", "add_file", "already_there", "decision",
    "decisions", "drop", "expired", "files_of", "forget", "labels", "mark_placed", "met", "newest_schema", "outcomes",
    "paths", "removing", "reopen", "report", "save_versions", "schema", "settle", "sizes", "unplaced",
]  # fmt: skip
