"""Topics, dead letters, the audit ledger, alerts, reports, and how the platform is."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson

from ..answers import DeadLetter, Page, Platform, TopicState, Verification
from ..flows import Document, part, read, send, text
from ..wire import Flow, Request, operation

_EXPORT_TIMEOUT_S = 600.0


class Operating:
    """Topics, dead letters, the audit ledger, alerts, reports, and how the platform is."""

    @operation
    def topics(self) -> Flow[Page[TopicState]]:
        """The topics: rate, size, lag of each consumer group, dead letters."""
        return (yield from read(Page[TopicState], "/v1/topics"))

    @operation
    def dead_letters(
        self, topic: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Flow[Page[DeadLetter]]:
        """Records that could not be handled, newest first, with the reason."""
        return (yield from read(Page[DeadLetter], "/v1/dead-letters", topic=topic, limit=limit, cursor=cursor))

    @operation
    def replay(self, topic: str, records: Iterable[tuple[int, int]] | None = None) -> Flow[Document]:
        """Give dead letters of a topic to their service again: all, or those at (partition, offset)."""
        body: Document = {"topic": topic}
        if records is not None:
            body["records"] = [{"partition": partition, "offset": offset} for partition, offset in records]
        return (yield from send(Document, "POST", "/v1/dead-letters/replay", body))

    @operation
    def audit(
        self,
        *,
        subject: str | None = None,
        actor: str | None = None,
        since: datetime | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Flow[Page[Document]]:
        """What was done, by whom, when: the ledger's rows, newest first."""
        filters = {"subject": subject, "actor": actor, "since": text(since), "limit": limit, "cursor": cursor}
        return (yield from read(Page[Document], "/v1/audit", **filters))

    @operation
    def verify_audit(self) -> Flow[Verification]:
        """Let the platform verify its ledger. `fairlead audit verify` does it without trusting the platform."""
        return (yield from send(Verification, "POST", "/v1/audit/verify", {}))

    @operation
    def export_audit(self) -> Flow[tuple[bytes, bytes]]:
        """The whole ledger and its checkpoints as JSON Lines, for `fairlead.audit` to verify offline."""
        # Before the records: a later checkpoint would seal some that were not exported. And again after them:
        # they may tell of checkpoints that were made meanwhile.
        before = (yield Request("GET", "/v1/audit/checkpoints")).content
        records = (yield Request("GET", "/v1/audit/export", timeout_s=_EXPORT_TIMEOUT_S)).content
        after = (yield Request("GET", "/v1/audit/checkpoints")).content
        return records, before + _made_meanwhile(before, after, upto=records.count(b"\n"))

    @operation
    def alerts(self, state: str | None = "open", *, limit: int | None = None) -> Flow[Page[Document]]:
        """What a person should look at: `open`, `acknowledged` or `resolved`; None for all."""
        return (yield from read(Page[Document], "/v1/alerts", state=state, limit=limit))

    @operation
    def acknowledge_alert(self, id: str, comment: str | None = None) -> Flow[Document]:
        """Take care of an alert: it gets an owner."""
        return (yield from send(Document, "POST", f"/v1/alerts/{part(id)}/acknowledge", {"comment": comment}))

    @operation
    def close_alert(self, id: str, reason: str) -> Flow[Document]:
        """End an alert that nothing but a person can end (a disputed ledger), with what was found."""
        return (yield from send(Document, "POST", f"/v1/alerts/{part(id)}/close", {"reason": reason}))

    @operation
    def report(self, kind: str, **filters: Any) -> Flow[Document]:
        """A report by its kind: `history` with `model="credit"` tells all that ever happened to a model."""
        return (yield from read(Document, f"/v1/reports/{part(kind)}", **filters))

    @operation
    def kpis(self) -> Flow[Document]:
        """The figures of the business: models, endpoints, time from ready to in business, drifts, promotions."""
        return (yield from read(Document, "/v1/kpis"))

    @operation
    def status(self) -> Flow[Platform]:
        """Who is where, and who is ready."""
        return (yield from read(Platform, "/v1/platform"))


def _made_meanwhile(before: bytes, after: bytes, upto: int) -> bytes:
    """The checkpoints that only the later copy of the file has, as far as they seal nothing but exported records."""
    continues = after.startswith(before) and (not before or before.endswith(b"\n"))
    whole = [line for line in after[len(before) :].splitlines(keepends=True) if line.endswith(b"\n")]
    return b"".join(line for line in whole if continues and orjson.loads(line)["position"] <= upto)
