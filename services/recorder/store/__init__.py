"""All SQL of the recorder, by subject."""

from .erasures import (
    Erasure,
    add_erasure,
    all_in,
    any_tombstone,
    count_late,
    erase,
    erasure,
    finish,
    ids_in,
    left,
    next_file,
    running,
    tell_problem,
    tombstones,
)
from .files import (
    NewFile,
    Waiting,
    add_file,
    already_there,
    doom,
    doomed,
    drop,
    forget,
    is_referred_to,
    mark_placed,
    places,
    removing,
    undoom,
    unfollowed,
    unplaced,
)
from .frozen import Frozen, add_snapshot, erased_ids, frozen, frozen_of, remove_snapshot, replace_snapshot
from .lookup import Chosen, DecisionRow, Followed, Wanted, date_outcomes, decision, decisions, followed, newest
from .observations import NewOutcomes, add_outcomes, hasten, leaving, newest_written, next_leaving, withdraw
from .reports import Kept, OutcomeRow, count_observed, labels, outcomes, reopen, report, settle, sizes
from .rewriting import (
    FILING,
    FOLDING,
    MOVING,
    Folder,
    InUse,
    Member,
    alone,
    empty,
    give_back,
    know_sizes,
    merge,
    rewrite,
    set_aside,
    settle_folder,
    share,
    share_for_long,
    small,
    still,
    unsettled,
)
from .schemas import newest_schema, save_versions, schema
from .seeking import Unmet, count_unmet, expired, forget_expired, met, seek, unmet
from .shadows import for_late_shadows, for_shadows

__all__ = [
    "FILING", "FOLDING", "MOVING", "Chosen", "DecisionRow", "Erasure", "Folder", "Followed", "Frozen", "InUse",
    "Kept", "Member", "NewFile", "NewOutcomes", "OutcomeRow", "Unmet", "Waiting", "Wanted", "add_erasure", "add_file",
    "add_outcomes", "add_snapshot", "all_in", "alone", "already_there", "any_tombstone", "count_late",
    "count_observed", "count_unmet", "date_outcomes", "decision", "decisions", "doom", "doomed", "drop", "empty",
    "erase", "erased_ids", "erasure", "expired", "finish", "followed", "for_late_shadows", "for_shadows", "forget",
    "forget_expired", "frozen", "frozen_of", "give_back", "hasten", "ids_in", "is_referred_to", "know_sizes", "labels",
    "leaving", "left", "mark_placed", "merge", "met", "newest", "newest_schema", "newest_written", "next_file",
    "next_leaving", "outcomes", "places", "remove_snapshot", "removing", "reopen", "replace_snapshot", "report",
    "rewrite", "running", "save_versions", "schema", "seek", "set_aside", "settle", "settle_folder", "share",
    "share_for_long", "sizes", "small", "still", "tell_problem", "tombstones", "undoom", "unfollowed", "unmet",
    "unplaced", "unsettled", "withdraw",
]  # fmt: skip
