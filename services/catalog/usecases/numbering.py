"""How a candidate becomes a numbered version: within a transaction that holds its model."""

from services.kit.context import current
from services.kit.db import Scalar, Tx
from services.kit.errors import Conflict
from services.kit.ids import now

from .. import store
from ..domain import Candidate, ModelVersion


async def hold_model(tx: Tx, name: str, unit: str) -> None:
    """Hold the model until the commit, so that its numbers have no gaps and no twins. Raises Conflict."""
    if not await store.lock_model(tx.session, name, unit):
        raise Conflict(f"the name {name} is taken")


async def number(tx: Tx, candidate: Candidate, unit: str, by: str) -> ModelVersion:
    """The next version of a model that is held; `model.registered` tells of it."""
    next_one = await store.next_version(tx.session, candidate.manifest.name)
    made = ModelVersion.of(candidate, next_one, unit, by, now())
    await store.add_version(tx.session, made)
    detail: dict[str, Scalar] = {"version": next_one, "digest": candidate.digest, "scan": candidate.scan.verdict}
    tx.emit(made.fact(), unit=unit, detail=detail)
    return made


def unit_of_event() -> str:
    """The business unit of the event in hand: handlers act in it and in no other."""
    (unit,) = current().caller.units
    return unit
