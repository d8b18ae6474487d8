"""Use cases and models: registered, looked up, retired."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

from contracts import ApprovalGranted, DeploymentChanged, ModelRetired, Training
from services.kit.alerts import raise_alert
from services.kit.context import Caller, current
from services.kit.db import Database
from services.kit.errors import Altered, Conflict, Forbidden, Invalid, NotFound
from services.kit.ids import now

from .. import store
from ..domain import Acting, Candidate, Listed, ModelVersion, UseCase
from ..intake import Intake
from ..lineage import Lineage
from ..manifest import validated
from . import numbering


class Catalog:
    """Use cases and models, from registration to retirement."""

    def __init__(self, db: Database, intake: Intake) -> None:
        self._db = db
        self.intake = intake

    async def register_use_case(self, use_case: UseCase) -> tuple[UseCase, bool]:
        """Name something that the business wants decided; answers what is there, and whether it is new.

        The same content again changes nothing. Raises Conflict where the name has another content or another unit.
        """
        async with self._db.transaction(unit=use_case.unit) as tx:
            there, is_new = await store.add_use_case(tx.session, use_case, current().caller.actor, now())
            if there is None:
                raise Conflict(f"the name {use_case.use_case} is taken")
            if is_new:
                tx.emit(use_case.fact(), unit=use_case.unit, detail={"risk_tier": use_case.risk_tier})
        return there.again(use_case), is_new

    async def use_case(self, name: str) -> UseCase:
        """Raises NotFound, also for one of a unit that the caller does not see."""
        async with self._db.reading() as session:
            return _found(await store.use_case_of(session, name), f"use case {name}")

    async def use_cases(self, after: str, limit: int) -> list[UseCase]:
        """By name: at most `limit` of those that come after `after`."""
        async with self._db.reading() as session:
            return await store.use_cases(session, after, limit)

    async def register(
        self, upload: Path, work: Path, unit: str, overrides: dict[str, Any]
    ) -> tuple[ModelVersion, bool]:
        """Register an uploaded model, unpacked in `work`; answers its version, and whether it is new.

        The same bytes again give the version that is there. Raises Invalid or TooLarge naming the field that is wrong,
        Conflict for a name of another unit, Unavailable where sandbox or object store are away, NoRoom.
        """
        pack = await self.intake.pack(upload, work, overrides)
        async with self._db.reading(unit=unit) as session:
            known = await store.version_by_digest(session, pack.manifest.name, pack.digest)
        if known:
            return known, False
        return await self.add(await self.intake.candidate(pack, Training(), unit), unit, current().caller.actor)

    async def add(self, candidate: Candidate, unit: str, by: str) -> tuple[ModelVersion, bool]:
        """Give a candidate the next number of its model; answers the version, and whether it is new.

        The same bytes again get the number that they have. Raises Conflict for a name of another unit.
        """
        async with self._db.transaction(unit=unit) as tx:
            await numbering.hold_model(tx, candidate.manifest.name, unit)
            known = await store.version_by_digest(tx.session, candidate.manifest.name, candidate.digest)
            return (known, False) if known else (await numbering.number(tx, candidate, unit, by), True)

    async def models(
        self, query: str | None, tag: str | None, state: str | None, after: str, limit: int
    ) -> list[Listed]:
        """Models that fit, by name: at most `limit` of those whose names come after `after`."""
        async with self._db.reading() as session:
            return await store.search(session, query, tag, state, after, limit)

    async def model(self, name: str, before: int | None, limit: int) -> tuple[Listed, list[ModelVersion]]:
        """A model, and at most `limit` of its versions below `before`, the newest first. Raises NotFound."""
        async with self._db.reading() as session:
            (newest,) = _found(await store.versions_of(session, name, None, 1), f"model {name}")
            serves = bool(await store.serving_of(session, name))
            return Listed.of(newest, serves=serves), await store.versions_of(session, name, before, limit)

    async def endpoints(self, model: str, version: int) -> list[str]:
        """The endpoints that a version serves."""
        async with self._db.reading() as session:
            return [each.endpoint for each in await store.serving_of(session, model) if each.version == version]

    async def version(self, model: str, version: int) -> ModelVersion:
        """Raises NotFound, also for one of a unit that the caller does not see."""
        async with self._db.reading() as session:
            return _found(await store.version_of(session, model, version), f"version {version} of model {model}")

    async def package(self, made: ModelVersion) -> AsyncIterator[bytes]:
        """The bytes of a version in chunks. Where they are not those that were registered, none: a person is alerted.

        Raises Altered, NotFound, Unavailable, NoRoom.
        """
        try:
            return await self.intake.package(made.candidate.digest)
        except Altered as reason:
            await self._tell_altered(made, reason.message)
            raise

    async def _tell_altered(self, made: ModelVersion, reason: str) -> None:
        digest = made.candidate.digest
        async with self._db.transaction(unit=made.unit) as tx:
            tx.record("package.altered", made.model, unit=made.unit, version=made.version, digest=digest)
            raise_alert(
                tx, "package-altered", f"{made.model}/{made.version}", "critical",
                f"the stored package of {made.model}, version {made.version}, was altered", reason,
                "It is not handed out, and no scorer loads it. Find out who wrote to the object store, and put the"
                " object back from a backup: only the registered bytes fit its digest.",
                unit=made.unit,
            )  # fmt: skip

    async def retire(self, model: str, version: int, reason: str) -> ModelVersion:
        """Take a version out of service for good; whoever serves it hears of it. Raises NotFound, Conflict."""
        caller = current().caller
        async with self._db.transaction() as tx:
            there = await store.version_of(tx.session, model, version, lock=True)
            made = _found(there, f"version {version} of model {model}").retire(caller.actor, reason)
            await store.save_state(tx.session, made)
            fact = ModelRetired(model=model, version=version, retired_by=caller.actor, reason=reason)
            tx.emit(fact, unit=made.unit, detail={"version": version, "reason": reason})
        return made

    async def lineage(self, model: str, version: int) -> Lineage:
        """Where a version came from and where it went. Raises NotFound."""
        async with self._db.reading() as session:
            made = _found(await store.version_of(session, model, version), f"version {version} of model {model}")
            return Lineage.of(
                made,
                await store.serving_of(session, model),
                await store.grants_of(session, model, version),
                await store.retrainings_of(session, model, version),
            )

    async def note_deployment(self, event: DeploymentChanged) -> None:
        """Remember what an endpoint serves now."""
        unit = numbering.unit_of_event()
        async with self._db.transaction(unit=unit) as tx:
            await store.note_serving(tx.session, event, unit)

    async def note_grant(self, event: ApprovalGranted) -> None:
        """Remember who allowed a version to serve where."""
        unit = numbering.unit_of_event()
        async with self._db.transaction(unit=unit) as tx:
            await store.note_grant(tx.session, event.grant, unit)


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
    unit = validated(Acting, {"unit": wanted}).unit
    if not caller.sees(unit):
        raise Forbidden(f"{caller.actor} does not act for business unit {unit}")
    return unit
