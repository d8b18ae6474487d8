"""Counts `outcome.observed` for the bandits of this host, and tells its workers the sums."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import Counter
from pydantic import ValidationError

from contracts import OutcomeObserved
from services.kit.again import Backoff
from services.kit.away import is_away
from services.kit.stream import Record
from services.kit.tail import tail
from services.kit.telemetry import get_logger

from ..files import tell
from ..settings import ScorerSettings
from .domain import Experiment, counts, experiments_of, reward_of
from .store import Reward, Store

log = get_logger(__name__)

REWARDS = Counter("fairlead_scorer_rewards_total", "Outcomes of decisions that a bandit made", ["endpoint", "result"])

_LOOK_S = 1.0
_KEPT_MS = int((OutcomeObserved.topic.keep or timedelta(days=30)) / timedelta(milliseconds=1))
"""As long as a record may be in the topic and come again, its row is known; what is told of older decisions is not
counted, since nobody knows whether it was before."""
Wanted = Callable[[], Mapping[str, Any]]


class Rewards:
    """One host's bookkeeping. Each host counts for itself, from the beginning of each experiment; none asks another."""

    def __init__(self, settings: ScorerSettings, wanted: Wanted) -> None:
        """`wanted`: the desired states of this host's endpoints."""
        self._settings = settings
        self._wanted = wanted
        self._path = settings.run_folder / "rewards.sqlite"
        self._told = b""

    async def run(self) -> None:
        """Until cancelled."""
        backoff = Backoff(0.5)
        while True:
            try:
                if not experiments_of(self._wanted()):
                    self._tell({})
                    await asyncio.sleep(_LOOK_S)
                    continue
                await self._count()
            except sqlite3.DatabaseError as error:  # all of it is in the topic
                log.error("the rewards' file cannot be used: they are counted anew", error=str(error))
                _remove(self._path)
                await asyncio.sleep(backoff.pause())
            except Exception as error:  # its kinds have no common base; all others go on
                if not (is_away(error) or isinstance(error, OSError)):
                    raise
                log.warning("rewards are delayed", error=str(error)[:200])
                await asyncio.sleep(backoff.pause())

    async def _count(self) -> None:
        """Until other experiments run than now."""
        store = await asyncio.to_thread(Store, self._path)
        try:
            running = experiments_of(self._wanted())
            await asyncio.to_thread(store.run, running)
            await self._say(store)
            since = min(experiment.since for experiment in running.values())
            pieces = tail(self._settings, OutcomeObserved.topic, store.places(), since)
            async with aclosing(pieces):
                async for piece in pieces:
                    if experiments_of(self._wanted()) != running:
                        return
                    if piece is None:
                        continue
                    oldest_ms = int(time.time() * 1000) - _KEPT_MS
                    rewards = [r for record in piece.records if (r := _reward(record, running, oldest_ms))]
                    await asyncio.to_thread(store.fold, piece.partition, piece.next, rewards, oldest_ms)
                    if rewards:
                        await self._say(store)
        finally:
            store.close()

    async def _say(self, store: Store) -> None:
        sums = await asyncio.to_thread(store.sums)
        self._tell({
            endpoint: {"salt": salt, "arms": {str(version): told for version, told in arms.items()}}
            for endpoint, (salt, arms) in sums.items()
        })  # fmt: skip

    def _tell(self, arms: dict[str, Any]) -> None:
        if (said := orjson.dumps(arms)) != self._told and tell(self._settings.arms_path, said):
            self._told = said


def _reward(record: Record, running: Mapping[str, Experiment], oldest_ms: int) -> Reward | None:
    """None for what does not count; for what is older, or of an older decision, too: whether that was counted is
    forgotten."""
    if record.timestamp_ms < oldest_ms:
        return None
    try:
        outcome = OutcomeObserved.from_json(record.value or b"")
    except ValidationError:
        return None
    if not counts(outcome, running.get(outcome.endpoint)):
        return None
    reward = reward_of(outcome) if outcome.received_at.timestamp() * 1000 >= oldest_ms else None
    REWARDS.labels(outcome.endpoint, "counted" if reward is not None else "ignored").inc()
    if reward is None:
        return None
    return Reward(outcome.endpoint, outcome.inference_id, outcome.row, outcome.version, reward, record.timestamp_ms)


def _remove(path: Path) -> None:
    for one in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        one.unlink(missing_ok=True)
