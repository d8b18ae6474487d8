"""A bench that has a bound says whether it was kept, and ends with an error where not."""

import pytest

from bench.bounds import broken, verdict


@pytest.mark.parametrize(("after_ms", "kept"), [(1.0, True), (3.0, True), (3.1, False)])
def test_a_latency_beyond_its_bound_is_told(after_ms: float, kept: bool) -> None:
    line = verdict(2.0, after_ms, 1.5)
    assert (line["ratio"], line["kept"]) == (after_ms / 2, kept)
    found = {"away": line, "rest": [{"ratio": 0.5}], "batch": {"ratio": 2.0}, "load_average": 1.0}
    assert broken(found) == ([] if kept else ["away"])
