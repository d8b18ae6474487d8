"""What people read: processes, figures, and the history of a model."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from services.governor.domain import report
from services.governor.domain.approval import Approval
from services.governor.engine.process import Instance, Step, Template
from services.governor.store import approvals, facts, ledger, processes
from services.governor.store.ledger import Entry
from services.governor.store.processes import Process
from services.kit.db import Database
from services.kit.errors import NotFound
from services.kit.http import Page, page
from services.kit.ids import now

from .places import Told, moment_and_id, place
from .runner import Runner

_APPROVALS = TypeAdapter(list[Approval])


class Reports:
    """Reads what the others keep."""

    def __init__(self, db: Database, runner: Runner) -> None:
        self._db = db
        self._runner = runner

    async def process(self, id: UUID) -> tuple[Process, list[Step], UUID | None]:
        """A process, its way through the diagram, and the approval that it asked for."""
        async with self._db.reading() as session:
            process = await processes.get(session, id)
            approval = await approvals.of_process(session, id) if process else None
        if process is None:
            raise NotFound(f"there is no process {id}")
        return process, Instance.restored(process.workflow).steps, approval.id if approval else None

    async def processes(
        self, limit: int, cursor: str | None, *, model: str | None, use_case: str | None, endpoint: str | None,
        state: str | None,
    ) -> Page[Process]:  # fmt: skip
        """Processes that fit, the newest first. Raises Invalid for a cursor that was not made here."""
        before = moment_and_id(cursor)
        async with self._db.reading() as session:
            found = await processes.page(
                session, model=model, use_case=use_case, endpoint=endpoint, state=state, limit=limit + 1, before=before
            )
        return page(found, limit, place(found[limit - 1].started_at, found[limit - 1].id) if found[limit:] else None)

    @property
    def templates(self) -> list[Template]:
        """All templates that processes follow."""
        return list(self._runner.templates.values())

    def template(self, name: str) -> Template:
        """A template by its name. Raises NotFound."""
        if name not in self._runner.templates:
            raise NotFound(f"there is no template {name[:80]}")
        return self._runner.templates[name]

    async def policies(self, version: str | None) -> dict[str, Any]:
        """The policies in force, or those of a version that an approval names."""
        in_force = self._runner.policies
        if version in (None, in_force.version):
            return in_force.document()
        async with self._db.reading() as session:
            document = await facts.policy(session, version or "")
        if document is None:
            raise NotFound(f"there is no policy version {(version or '')[:80]}")
        return document

    async def kpis(self) -> dict[str, Any]:
        """The figures of what the caller may see; times in seconds, None where nothing has happened yet."""
        async with self._db.reading() as session:
            figures = await facts.kpis(session)
        return {name: None if value is None else float(value) if name.endswith("_s") else int(value)
                for name, value in figures.items()}  # fmt: skip

    async def history(self, model: str, limit: int, cursor: str | None) -> dict[str, Any]:
        """All that is known of a model, with its Markdown page; of everything at most `limit` at a time.

        Raises NotFound, Invalid for a cursor that was not made here.
        """
        before = Told.of(cursor)
        async with self._db.reading() as session:
            if not await facts.versions(session, model, 0, 1):
                raise NotFound(f"there is no model {model}")
            versions = await facts.versions(session, model, before.version, limit + 1)
            decided = await approvals.of_model(session, model, (before.asked_at, before.approval), limit + 1)
            told = await ledger.history(session, model, before.position, limit + 1)
            head = await ledger.head(session)
        more = any(len(found) > limit for found in (versions, decided, told))
        versions, decided, told = versions[:limit], decided[:limit], told[:limit]
        history: dict[str, Any] = {
            "model": model,
            "generated_at": now().isoformat(timespec="seconds"),
            "ledger": {"records": head.position, "sealed": head.sealed, "head": head.hash},
            "versions": [_version(row) for row in versions],
            "approvals": _APPROVALS.dump_python(decided, mode="json"),
            "facts": [entry_view(entry) for entry in told],
            "after": before.position,
            "next": _behind(before, versions, decided, told).cursor if more else None,
        }  # fmt: skip
        return history | {"markdown": report.markdown(history)}

    async def report(self, kind: Literal["history"], model: str, limit: int, cursor: str | None) -> dict[str, Any]:
        """A report by its kind. Raises NotFound."""
        return {"kind": kind, **await self.history(model, limit, cursor)}


def _behind(
    before: Told, versions: Sequence[Mapping[str, Any]], decided: Sequence[Approval], told: Sequence[Entry]
) -> Told:
    """Up to where everything is told with this page."""
    approval = decided[-1] if decided else None
    return Told(
        versions[-1]["document"]["version"] if versions else before.version,
        approval.requested_at if approval else before.asked_at,
        approval.id if approval else before.approval,
        told[-1].position if told else before.position,
    )


def entry_view(entry: Entry) -> dict[str, Any]:
    """A ledger record for a reader, its detail included."""
    told = orjson.loads(entry.content)
    view = {name: getattr(entry, name) for name in (
        "position", "hash", "service", "number", "unit", "action", "subject", "actor", "correlation_id",
    )}  # fmt: skip
    return view | {"at": entry.at.isoformat(), "event_id": told.get("event_id"), "detail": told.get("detail", {})}


def _version(row: dict[str, Any]) -> dict[str, Any]:
    told = row["document"]
    times = {name: _iso(row[name]) for name in ("registered_at", "serving_at", "retired_at")}
    return times | {
        "version": told["version"], "digest": told["digest"], "registered_by": told["registered_by"],
        "scan": told["scan"]["verdict"], "metrics": told["training"]["metrics"], "rows": told["training"]["rows"],
        "parent_version": told["training"]["parent_version"], "retraining_id": told["training"]["retraining_id"],
    }  # fmt: skip


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
