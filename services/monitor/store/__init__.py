"""All SQL of the monitor, by subject; what most use cases ask is at hand here."""

from .endpoints import (
    Endpoint,
    VersionRow,
    all_serving,
    changed,
    clock,
    endpoint,
    endpoints,
    lock,
    override,
    own,
    save_desired,
    serving,
    stop_serving,
    version,
)
from .findings import (
    Dimension,
    FindingRow,
    add_finding,
    close_alarms,
    drop_watch,
    findings,
    is_grouped,
    open_alarm,
    save_watch,
    watch,
)
from .windows import (
    WindowKey,
    add_part,
    anything_open,
    closed,
    lock_part,
    note_event_time,
    note_read_to_end,
    open_parts,
    parts_since,
    reached,
    replace_part,
    reports,
    save_closed,
    seen,
    take_parts,
    tidy,
    watermark,
    windows_to_close,
)

__all__ = [
    "Dimension", "Endpoint", "FindingRow", "VersionRow", "WindowKey", "add_finding", "add_part", "all_serving",
    "anything_open", "changed", "clock", "close_alarms", "closed", "drop_watch", "endpoint", "endpoints",
    "findings", "is_grouped", "lock", "lock_part", "note_event_time", "note_read_to_end", "open_alarm",
    "open_parts", "override", "own", "parts_since", "reached", "replace_part", "reports", "save_closed",
    "save_desired", "save_watch", "seen", "serving", "stop_serving", "take_parts", "tidy", "version", "watch",
    "watermark", "windows_to_close",
]  # fmt: skip
