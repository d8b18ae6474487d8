"""All SQL of the rewards: a file of this host, in which places in the topic and sums move together."""

import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .domain import Experiment

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS place (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS experiment (endpoint TEXT PRIMARY KEY, salt TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS reward (
        endpoint TEXT, inference_id TEXT, row INTEGER, version INTEGER NOT NULL, reward REAL NOT NULL,
        said_ms INTEGER NOT NULL, PRIMARY KEY (endpoint, inference_id, row)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS arm (
        endpoint TEXT, version INTEGER, rewards REAL NOT NULL, outcomes INTEGER NOT NULL,
        PRIMARY KEY (endpoint, version)
    ) WITHOUT ROWID;
"""
_SAID = "CREATE INDEX IF NOT EXISTS reward_said ON reward (said_ms)"
_TAKE_BACK = """
    UPDATE arm SET rewards = rewards - known.reward, outcomes = outcomes - 1 FROM reward AS known
    WHERE known.endpoint = :endpoint AND known.inference_id = :inference_id AND known.row = :row
        AND arm.endpoint = known.endpoint AND arm.version = known.version
"""
_KEEP = "INSERT OR REPLACE INTO reward VALUES (:endpoint, :inference_id, :row, :version, :reward, :said_ms)"
_ADD = """
    INSERT INTO arm VALUES (:endpoint, :version, :reward, 1)
    ON CONFLICT DO UPDATE SET rewards = rewards + excluded.rewards, outcomes = outcomes + 1
"""


@dataclass(frozen=True)
class Reward:
    """What followed from one decided row; what is heard of the row again takes its place."""

    endpoint: str
    inference_id: str
    row: int
    version: int
    reward: float
    said_ms: int
    """The time of its record, in milliseconds since 1970."""


class Store:
    """Blocking; one thread at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(_SCHEMA)
        if "said_ms" not in {column[1] for column in self._db.execute("PRAGMA table_info(reward)")}:
            now_ms = int(time.time() * 1000)  # of a version that kept all of them
            self._db.execute(f"ALTER TABLE reward ADD COLUMN said_ms INTEGER NOT NULL DEFAULT {now_ms}")
        self._db.execute(_SAID)

    def close(self) -> None:
        """Nothing is asked of it any more."""
        self._db.close()

    def run(self, experiments: Mapping[str, Experiment]) -> None:
        """Count for these and forget all others. For one that is new, the topic is to be read again from its beginning:
        what was counted is recognised."""
        with self._transaction():
            known = dict(self._db.execute("SELECT endpoint, salt FROM experiment").fetchall())
            for endpoint in [name for name, salt in known.items() if _salt(experiments, name) != salt]:
                for table in ("experiment", "reward", "arm"):
                    self._db.execute(f"DELETE FROM {table} WHERE endpoint = ?", (endpoint,))
            new = [e for e in experiments.values() if known.get(e.endpoint) != e.salt]
            self._db.executemany("INSERT INTO experiment VALUES (?, ?)", [(e.endpoint, e.salt) for e in new])
            if new:
                self._db.execute("DELETE FROM place")

    def places(self) -> dict[int, int]:
        """The next offset of each partition."""
        return dict(self._db.execute("SELECT partition, next FROM place").fetchall())

    def fold(self, partition: int, next: int, rewards: Iterable[Reward], oldest_ms: int = 0) -> None:
        """Count rewards, each row's once, and move on: both or neither. Rows that were last heard of before `oldest_ms`
        are forgotten, since no record of them can come again; they stay in the sums."""
        with self._transaction():
            for reward in rewards:
                for statement in (_TAKE_BACK, _KEEP, _ADD):
                    self._db.execute(statement, vars(reward))
            self._db.execute("DELETE FROM reward WHERE said_ms < ?", (oldest_ms,))
            self._db.execute("INSERT OR REPLACE INTO place VALUES (?, ?)", (partition, next))

    def sums(self) -> dict[str, tuple[str, dict[int, tuple[float, int]]]]:
        """By endpoint the experiment's salt, and by version the sum of its rewards and how many they are."""
        found: dict[str, tuple[str, dict[int, tuple[float, int]]]] = {
            endpoint: (salt, {}) for endpoint, salt in self._db.execute("SELECT endpoint, salt FROM experiment")
        }
        for endpoint, version, rewards, outcomes in self._db.execute("SELECT * FROM arm"):
            found[endpoint][1][version] = (rewards, outcomes)
        return found

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _salt(experiments: Mapping[str, Experiment], endpoint: str) -> str | None:
    found = experiments.get(endpoint)
    return found.salt if found else None
