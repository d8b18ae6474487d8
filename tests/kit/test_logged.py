"""Records of the log as their readers take them: what many have in common is checked once, and never mistaken."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import Invalid
from services.kit.logged import Head, recognised
from services.kit.stream import Record

SAID: dict[str, Any] = {
    "inference_id": "one", "endpoint": "credit", "unit": "retail", "use_case": "benefits", "model": "census",
    "version": 1, "variant": "champion", "mode": "rest", "application": "application", "entity": None,
    "request_id": "of-me", "writer": "worker-1", "seq": 1, "received_at": "2026-03-02T10:30:00+01:00",
    "latency_ms": 2, "rows": 3,
}  # fmt: skip


def head(**said: Any) -> Head:
    return recognised(Record(0, 0, None, orjson.dumps(SAID | said), ())).head()


def test_a_head_says_what_the_record_says() -> None:
    found = head()
    at = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    assert (found.inference_id, found.request_id, found.entity, found.rows) == ("one", "of-me", None, 3)
    assert (found.received_at, found.received_at.tzinfo, found.at_s) == (at, UTC, at.timestamp())
    assert (found.latency_ms, type(found.latency_ms)) == (2.0, float)
    origin = found.origin
    assert (origin.endpoint, origin.unit, origin.version, origin.mode) == ("credit", "retail", 1, "rest")
    assert head(received_at="2026-03-02T09:30:00").received_at == at, "without a zone it is UTC"


def test_records_of_one_origin_share_it_and_others_do_not() -> None:
    assert head().origin is head(inference_id="two", rows=7).origin
    assert head(application="other").origin is not head().origin
    assert head(version=2).origin.version == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", True), ("version", 1.0), ("version", "1"), ("version", -1), ("version", 2**31),
        ("endpoint", "No Name"), ("endpoint", None), ("unit", 7), ("unit", ["retail"]), ("mode", {"a": 1}),
        ("application", "nul\0"), ("variant", None), ("inference_id", ""), ("inference_id", "x" * 101),
        ("entity", 7), ("request_id", "nul\0"), ("received_at", "yesterday"), ("received_at", None),
        ("received_at", (datetime.now(UTC) + timedelta(days=2)).isoformat()), ("latency_ms", True),
        ("latency_ms", None), ("rows", True), ("rows", 1.0), ("rows", None), ("shadow_of", 1), ("instead_of", []),
        ("params", "{}"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_however_often_the_like_was_right(field: str, value: Any) -> None:
    head()
    for _ in range(2):
        with pytest.raises(Invalid, match=f"^{field}: ") as refused:
            head(**{field: value})
        assert refused.value.field == field


@given(st.sampled_from(sorted(SAID)))
def test_a_field_that_is_missing_is_named_where_it_is_needed(field: str) -> None:
    record = Record(0, 0, None, orjson.dumps({name: said for name, said in SAID.items() if name != field}), ())
    if field in ("entity", "request_id"):
        assert getattr(recognised(record).head(), field) is None
        return
    with pytest.raises(Invalid, match=f"^{field}: "):
        recognised(record).head()
