"""What the catalog can do."""

from pathlib import Path
from typing import Any, TypeVar

from contracts import ApprovalGranted, DeploymentChanged, ModelRetired, RetrainingCompleted, Training
from services.kit.context import Caller, current
from services.kit.db import Database, Scalar, Tx
from services.kit.errors import Conflict, Forbidden, Invalid, NotFound
from services.kit.ids import now

from . import store
from .domain import Candidate, ModelVersion, Retraining, UseCase
from .intake import Intake
from .lineage import Lineage


class Catalog:
    """Use cases and models, from registration to retirement."""

    def __init__(self, db: Database, intake: Intake) -> None:
        self._db = db
        self.intake = intake

    async def register_use_case(self, use_case: UseCase) -> tuple[UseCase, bool]:
        """Name something that the business wants decided; the same content again changes nothing."""
        async with self._db.transaction(unit=use_case.unit) as tx:
            there, is_new = await store.add_use_case(tx.session, use_case, current().caller.actor, now())
            if there is None:
                raise Conflict(f"the name {use_case.use_case} is taken")
            if is_new:
                tx.emit(use_case.fact(), unit=use_case.unit, detail={"risk_tier": use_case.risk_tier})
        return there.again(use_case), is_new

    async def use_case(self, name: str) -> UseCase:
        async with self._db.reading() as session:
            return _found(await store.use_case_of(session, name), f"use case {name}")

    async def use_cases(self, after: str, limit: int) -> list[UseCase]:
        async with self._db.reading() as session:
            return await store.use_cases(session, after, limit)

    async def register(
        self, upload: Path, work: Path, unit: str, overrides: dict[str, Any]
    ) -> tuple[ModelVersion, bool]:
        """Register an uploaded model. The same bytes again give the version that is there."""
        pack = await self.intake.pack(upload, work, overrides)
        async with self._db.reading(unit=unit) as session:
            known = await store.version_by_digest(session, pack.manifest.name, pack.digest)
        if known:
            return known, False
        return await self.add(await self.intake.candidate(pack, Training()), unit, current().caller.actor)

    async def add(self, candidate: Candidate, unit: str, by: str) -> tuple[ModelVersion, bool]:
        """Give a candidate the next number of its model; the same bytes again get the number that they have."""
        async with self._db.transaction(unit=unit) as tx:
            await _lock(tx, candidate, unit)
            known = await store.version_by_digest(tx.session, candidate.manifest.name, candidate.digest)
            return (known, False) if known else (await _number(tx, candidate, unit, by), True)

    async def models(
        self, query: str | None, tag: str | None, state: str | None, after: str, limit: int
    ) -> list[tuple[ModelVersion, bool]]:
        """The newest version of each model that fits, and whether the model serves anywhere."""
        async with self._db.reading() as session:
            return await store.search(session, query, tag, state, after, limit)

    async def model(self, name: str) -> tuple[list[ModelVersion], bool]:
        """All versions of a model, the newest first, and whether any of them serves."""
        async with self._db.reading() as session:
            versions = _found(await store.versions_of(session, name), f"model {name}")
            return versions, bool(await store.serving_of(session, name))

    async def endpoints(self, model: str, version: int) -> list[str]:
        """The endpoints that a version serves."""
        async with self._db.reading() as session:
            return [each.endpoint for each in await store.serving_of(session, model) if each.version == version]

    async def version(self, model: str, version: int) -> ModelVersion:
        async with self._db.reading() as session:
            return _found(await store.version_of(session, model, version), f"version {version} of model {model}")

    async def retire(self, model: str, version: int, reason: str) -> ModelVersion:
        """Take a version out of service for good; whoever serves it hears of it."""
        caller = current().caller
        async with self._db.transaction() as tx:
            there = await store.version_of(tx.session, model, version, lock=True)
            made = _found(there, f"version {version} of model {model}").retire(caller.actor, reason)
            await store.save_state(tx.session, made)
            fact = ModelRetired(model=model, version=version, retired_by=caller.actor, reason=reason)
            tx.emit(fact, unit=made.unit, detail={"version": version, "reason": reason})
        return made

    async def lineage(self, model: str, version: int) -> Lineage:
        """Where a version came from and where it went."""
        async with self._db.reading() as session:
            made = _found(await store.version_of(session, model, version), f"version {version} of model {model}")
            return Lineage.of(
                made,
                await store.serving_of(session, model),
                await store.grants_of(session, model),
                await store.retrainings_of(session, model),
            )

    async def register_candidate(self, event: RetrainingCompleted) -> None:
        """A retraining ended: a candidate that won becomes the next version; every outcome is remembered."""
        unit = _unit_of_event()
        candidate = await self._candidate(event) if event.outcome == "candidate_won" else None
        async with self._db.transaction(unit=unit) as tx:
            made = await _retrained(tx, candidate, unit, event) if candidate else None
            told = Retraining(
                str(event.retraining_id), event.champion_version, event.outcome, made and made.version,
                event.snapshot_digest, event.trained_rows,
            )  # fmt: skip
            await store.note_retraining(tx.session, event.model, unit, told)

    async def _candidate(self, event: RetrainingCompleted) -> Candidate:
        if event.package_digest is None:
            raise Invalid("a candidate won without a package", "package_digest")
        training = Training(
            rows=event.trained_rows, data_digest=event.snapshot_digest, metrics=event.candidate_metrics,
            retraining_id=str(event.retraining_id), parent_version=event.champion_version,
        )  # fmt: skip
        async with self.intake.folder() as work:
            pack = await self.intake.fetch(event.package_digest, work)
            if pack.manifest.name != event.model:
                raise Invalid(f"the candidate of {event.model} calls itself {pack.manifest.name}", "package_digest")
            return await self.intake.candidate(pack, training)

    async def note_deployment(self, event: DeploymentChanged) -> None:
        """Remember what an endpoint serves now."""
        unit = _unit_of_event()
        async with self._db.transaction(unit=unit) as tx:
            await store.note_serving(tx.session, event, unit)

    async def note_grant(self, event: ApprovalGranted) -> None:
        """Remember who allowed a version to serve where."""
        unit = _unit_of_event()
        async with self._db.transaction(unit=unit) as tx:
            await store.note_grant(tx.session, event.grant, unit)


async def _lock(tx: Tx, candidate: Candidate, unit: str) -> None:
    if not await store.lock_model(tx.session, candidate.manifest.name, unit):
        raise Conflict(f"the name {candidate.manifest.name} is taken")


async def _number(tx: Tx, candidate: Candidate, unit: str, by: str) -> ModelVersion:
    """The next version; the model is locked, so numbers have no gaps and no twins."""
    number = await store.next_version(tx.session, candidate.manifest.name)
    made = ModelVersion.of(candidate, number, unit, by, now())
    await store.add_version(tx.session, made)
    detail: dict[str, Scalar] = {"version": number, "digest": candidate.digest, "scan": candidate.scan.verdict}
    tx.emit(made.fact(), unit=unit, detail=detail)
    return made


async def _retrained(tx: Tx, candidate: Candidate, unit: str, event: RetrainingCompleted) -> ModelVersion:
    """One version for each retraining, even where it made bytes that are there: others wait for its number."""
    await _lock(tx, candidate, unit)
    known = await store.version_by_retraining(tx.session, str(event.retraining_id))
    return known or await _number(tx, candidate, unit, event.requested_by)


def _unit_of_event() -> str:
    """The business unit of the event in hand: handlers act in it and in no other."""
    (unit,) = current().caller.units
    return unit


T = TypeVar("T")


def _found(thing: T | None, what: str) -> T:
    if not thing:
        raise NotFound(f"there is no {what}")
    return thing


def acting_unit(caller: Caller, wanted: str | None) -> str:
    """The business unit in which a caller registers something. Raises Invalid or Forbidden."""
    if wanted is None and len(caller.units) == 1 and "*" not in caller.units:
        return next(iter(caller.units))
    if wanted is None:
        raise Invalid("unit: say for which business unit, your token names several", "unit")
    if not caller.sees(wanted):
        raise Forbidden(f"{caller.actor} does not act for business unit {wanted}")
    return wanted
