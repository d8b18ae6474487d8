"""Batches whose files lie in an approved object store: now, at times, or when they arrive.

A place is written `connection/path`, such as `incoming/2026/june.parquet`.
"""

from ..answers import Batch, Page, Schedule
from ..errors import Invalid
from ..flows import Document, done, part, read, send, settled
from ..wire import Flow, Request, operation

_SCHEDULES = "/v1/batches/schedules"
_FORMATS = {"csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "arrow": "arrow", "arrows": "arrow"}


class Batching:
    """Batches from and to object stores, and their schedules."""

    @operation
    def batch_from(
        self, endpoint: str, source: str, *, output: str | None = None, version: int | None = None,
        wait: float | None = None,
    ) -> Flow[Batch]:  # fmt: skip
        """Score a file of an object store; write the result to another place too, in the format of its name.

        `version`: one that the endpoint holds; left out, its champion.
        """
        body: Document = {"endpoint": endpoint, "input": _place(source)} | _output(output) | _version(version)
        batch = yield from send(Batch, "POST", "/v1/batches", body)
        return batch if wait is None else (yield from settled(Batch, f"/v1/batches/{batch.id}", wait))

    @operation
    def cancel_batch(self, id: str) -> Flow[Batch]:
        """Score no more of it; what was decided stays decided. Raises Conflict where it is at its end."""
        return (yield from send(Batch, "POST", f"/v1/batches/{part(id)}/cancel", {}))

    @operation
    def schedule(
        self, endpoint: str, *, cron: str | None = None, timezone: str | None = None, source: str | None = None,
        arrives: str | None = None, output: str | None = None, version: int | None = None,
    ) -> Flow[Schedule]:  # fmt: skip
        """Score at times (`cron` by the clock of `timezone`, UTC if it is not said, with `source`, where `{date}`
        stands for the day), or each file that `arrives` below a prefix. `version` as in `batch_from`."""
        body: Document = {"endpoint": endpoint, "cron": cron} | _output(output) | _version(version)
        if timezone is not None:
            body["timezone"] = timezone
        if source is not None:
            body["input"] = _place(source)
        if arrives is not None:
            place = _place(arrives)
            body["arrives"] = {"connection": place["connection"], "prefix": place["path"]}
        return (yield from send(Schedule, "POST", _SCHEDULES, body))

    @operation
    def schedules(self, *, limit: int | None = None, cursor: str | None = None) -> Flow[Page[Schedule]]:
        """The standing orders, newest first."""
        return (yield from read(Page[Schedule], _SCHEDULES, limit=limit, cursor=cursor))

    @operation
    def schedule_state(self, id: str) -> Flow[Schedule]:
        """One standing order, and what its latest times or files became."""
        return (yield from read(Schedule, f"{_SCHEDULES}/{part(id)}"))

    @operation
    def pause_schedule(self, id: str) -> Flow[Schedule]:
        """Do nothing for it until it is resumed."""
        return (yield from send(Schedule, "POST", f"{_SCHEDULES}/{part(id)}/pause", {}))

    @operation
    def resume_schedule(self, id: str) -> Flow[Schedule]:
        """Go on, with the next time and with every file that arrived meanwhile."""
        return (yield from send(Schedule, "POST", f"{_SCHEDULES}/{part(id)}/resume", {}))

    @operation
    def end_schedule(self, id: str) -> Flow[None]:
        """Delete it. Its batches stay."""
        yield from done(Request("DELETE", f"{_SCHEDULES}/{part(id)}"))


def _place(given: str) -> dict[str, str]:
    connection, _, path = given.partition("/")
    if not connection or not path:
        raise Invalid(f"{given!r} is no place: write connection/path")
    return {"connection": connection, "path": path}


def _version(given: int | None) -> Document:
    return {} if given is None else {"version": given}


def _output(given: str | None) -> Document:
    if given is None:
        return {}
    place: Document = dict(_place(given))
    return {"output": place | {"format": _FORMATS.get(given.rpartition(".")[2].lower(), "parquet")}}
