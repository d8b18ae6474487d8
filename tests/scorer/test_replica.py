"""What a host says of itself, out of what its slots say."""

from typing import Any

import pytest

from services.scorer.replica import report_of

WANTED = {"unit": "retail", "revision": 2}


def slot(state: str, revision: int = 2, reason: str | None = None, *loaded: int) -> dict[str, Any]:
    return {"credit": {"revision": revision, "state": state, "reason": reason, "loaded": list(loaded)}}


@pytest.mark.parametrize(("slots", "state", "reason"), [
    ([slot("ready", 2, None, 2), slot("ready", 2, None, 2)], "ready", None),
    ([slot("ready", 2, None, 2), slot("ready", 1, None, 1)], "loading", None),
    ([slot("ready", 2, None, 2), slot("loading", 2, "no room")], "loading", "no room"),
    ([slot("loading", 2, "no room"), slot("failed", 2, "altered")], "failed", "altered"),
    ([slot("ready", 2, None, 2), {}], "loading", None),
    ([], "loading", None),
])  # fmt: skip
def test_a_host_is_as_far_as_the_slot_that_is_behind(
    slots: list[dict[str, Any]], state: str, reason: str | None
) -> None:
    report = report_of("credit", WANTED, slots)
    assert (report.state, report.reason) == (state, reason)
