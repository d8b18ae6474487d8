"""Samples that cannot be explained: what is said of it, what is not said, and that all others are explained."""

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from contracts import AttributionsRequested, Service, Window
from services.kit.burial import Burial
from services.kit.cloudevents import headers
from services.kit.context import Context, system, use
from services.kit.db import Database
from services.kit.errors import Conflict, NotFound, Unavailable
from services.kit.health import Progress
from services.kit.objects import Objects
from services.kit.stream import PartitionBatch, Record
from services.kit.testing import eventually, running
from services.scorer.explanations.gateway import Records, Version
from services.scorer.explanations.watching import Watching
from services.scorer.runtimes.errors import CannotLoad, ModelFailed
from services.scorer.settings import ScorerSettings

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


class Refusing(Records):
    """Stands for a version that fails while it is opened, by its model's name, after a while."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.asked: list[str] = []

    async def version(self, model: str, version: int) -> Version:
        self.asked.append(model)
        time.sleep(0.05)
        raise self.errors[model]


class Graveyard(Burial):
    """Keeps the letters."""

    def __init__(self) -> None:
        self.letters: list[str] = []

    def for_another(self, record: Record) -> bool:
        return False

    async def bury(self, batch: object, letters: object) -> None:
        assert isinstance(letters, list)
        self.letters += [str(reason) for _, reason in letters]


@pytest.fixture
async def watching(home: Path, service_db: Callable[[Service], Database]) -> AsyncIterator[Watching]:
    settings = ScorerSettings(home=home, attribution_cpu=0.2)
    watching = Watching(settings, service_db("scorer"), Objects(settings), Refusing(), Graveyard(), Progress())
    with use(Context(system("scorer", "retail"))):
        yield watching
    watching._models.close()


def failing(watching: Watching, **errors: Exception) -> list[str]:
    """Lets models fail; answers which ones were opened, as that grows."""
    assert isinstance(watching._records, Refusing)
    watching._records.errors = errors
    return watching._records.asked


def asked(model: str) -> AttributionsRequested:
    window = Window(**{"from": AT, "to": AT + timedelta(seconds=10)}, rows=1)
    return AttributionsRequested(
        endpoint=model, model=model, version=1, window=window, explaining="any", rows=((1.0, "secret"),), reference=True
    )  # fmt: skip


@pytest.mark.parametrize(
    "error", [Conflict("no rows"), CannotLoad("no rows"), ModelFailed("no rows"), NotFound("no rows")]
)
async def test_a_refusal_is_rested_for_and_not_looked_for_again(watching: Watching, error: Exception) -> None:
    opened, began, pace = failing(watching, broken=error), time.monotonic(), watching.pace()
    said = await watching.measured(asked("broken"), "retail", pace)
    assert said.cannot and said.cannot.endswith("no rows") and said.unexplained == 1 and said.busy_s >= 0.05
    assert said.cannot.startswith("the model cannot be asked") is isinstance(error, CannotLoad | ModelFailed)
    await pace.rest()
    assert time.monotonic() - began >= 5 * 0.05, "a fifth of a processor"
    again = await watching.measured(asked("broken"), "retail", watching.pace())
    assert (again.cannot, again.unexplained, opened) == (said.cannot, 1, ["broken"])
    await watching.measured(asked("broken"), "wealth", watching.pace())
    assert opened == ["broken"] * 2, "what another unit may open is another question"


async def test_what_is_away_is_not_remembered_and_what_was_rested_for_is_not_rested_for_again(
    watching: Watching,
) -> None:
    opened, pace = failing(watching, away=Unavailable("the catalog is away")), watching.pace()
    for times in (1, 2):
        with pytest.raises(Unavailable):
            await watching.measured(asked("away"), "retail", pace)
        await pace.rest()
        assert len(opened) == times and pace.rested_for_s >= times * 0.05
    assert pace.busy_s - pace.rested_for_s < pace.rested_for_s, "of its rests nothing counts as work"


async def test_what_nobody_expected_ends_nothing_and_its_words_are_not_logged(watching: Watching) -> None:
    opened = failing(watching, broken=ZeroDivisionError("secret"), other=Conflict("none"))
    with structlog.testing.capture_logs() as logs:
        async with running(watching._work()):
            for model in ("broken", "other"):
                watching._put(asked(model), "retail")
            await eventually(lambda: opened == ["broken", "other"], within=30)
    (said,) = [each for each in logs if each["event"] == "attributions failed"]
    assert said["error"] == "ZeroDivisionError" and "in measured" in said["where"]
    assert "secret" not in str(logs)


async def test_values_of_rows_are_in_no_dead_letter(watching: Watching) -> None:
    body = asked("credit").to_json().replace(b'"secret"', b'{"income": "secret"}')
    made = headers(AttributionsRequested, "monitor", "credit", Context(system("monitor")), "retail")
    batch = PartitionBatch("attributions.requested", 0, 0, 1, 1, [Record(0, 0, b"credit", body, made)])
    async with watching._db.transaction() as tx:
        await watching.hear(tx, batch)
    assert isinstance(watching._burial, Graveyard)
    (letter,) = watching._burial.letters
    assert "rows.0.1" in letter and "secret" not in letter


async def test_words_of_a_model_are_told_in_one_line_that_can_be_stored(watching: Watching) -> None:
    failing(watching, odd=CannotLoad("no\0 such\x1b[31m\nthing\ud800 " + "x" * 1_000))
    said = await watching.measured(asked("odd"), "retail", watching.pace())
    assert said.cannot and said.cannot.startswith("the model cannot be asked: no such [31m thing x")
    assert said.cannot.isprintable() and len(said.cannot) == 400
