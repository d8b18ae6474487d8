"""What a micro-batch took beside its models' work is shared out to the versions that were in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.scorer.dataplane import DataPlane
from services.scorer.streams.items import Item
from services.scorer.streams.scoring import Scoring
from services.scorer.streams.work import EndpointWork
from tests.scorer.making import House, classifier, package


@dataclass
class Record:
    """One as the client reads it."""

    offset: int
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes]] = ()


async def test_a_batch_of_one_version_after_a_batch_of_two_is_charged_its_own_time(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    plane, digest = DataPlane(house.settings), house.keep(package(classifier()))
    variants = [house.variant("credit", digest, n, name=f"v{n}", role=role) for n, role in ((1, "live"), (2, "shadow"))]
    await plane.apply(house.change("credit", *variants))
    one, two = (Scoring(plane.endpoints["credit"].by_version[version]) for version in (1, 2))
    nothing: Any = None
    work = EndpointWork("credit", nothing, nothing, nothing)

    def counts(scoring_s: float, *scorings: Scoring) -> tuple[float, float]:
        """What a batch with an item for each of these added to both."""
        before = one.served.counts.own_s, two.served.counts.own_s
        items = [Item(Record(n), b"") for n in range(len(scorings))]
        for item, scoring in zip(items, scorings, strict=True):
            item.scoring = scoring
        work._count(one, items, scoring_s, 0.0)
        return one.served.counts.own_s - before[0], two.served.counts.own_s - before[1]

    one.served.lane.inline_s += 5.0
    two.served.lane.inline_s += 3.0
    assert counts(10.0, one, two) == (pytest.approx(1.0), pytest.approx(1.0))
    one.served.lane.inline_s += 1.0
    assert counts(1.5, one) == (pytest.approx(0.5), 0.0)
    two.served.lane.inline_s += 2.0
    assert counts(2.5, two) == (0.0, pytest.approx(0.5))
