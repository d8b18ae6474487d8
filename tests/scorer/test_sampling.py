"""An endpoint may keep the payloads of a share of its inferences; every inference is logged all the same."""

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from contracts import InferenceLogged, MonitorSettings
from services.kit.ids import uuid7_text
from services.scorer.logrecord import LogRecord, Origin, RecordBuilder

from .living import Worker, rows
from .making import House, classifier

ORIGIN = Origin("credit", "retail", "loans", "credit", 1, "champion")
REQUEST, RESPONSE = b'{"inputs":[{"data":[1.5]}]}', b'{"outputs":[{"data":[1]}]}'


def record(builder: RecordBuilder, id: str) -> InferenceLogged:
    made = builder.record(
        inference_id=id, mode="rest", application="application", received_at=datetime(2026, 3, 2, tzinfo=UTC),
        latency_ms=1.0, rows=7, request=REQUEST, response=RESPONSE, entity="c-9",
    )  # fmt: skip
    return InferenceLogged.from_json(LogRecord.from_spool(made.to_spool()).value("writer", 3))


def test_about_the_share_that_was_asked_for_has_its_payload_and_a_repeat_is_what_it_was() -> None:
    builder, ids = RecordBuilder(ORIGIN, 0.25), [uuid7_text() for _ in range(4000)]
    first, again = ([record(builder, id) for id in ids] for _ in range(2))
    assert first == again
    kept = [one for one in first if one.sampled]
    assert len(kept) == pytest.approx(1000, abs=5 * (4000 * 0.25 * 0.75) ** 0.5)
    assert all(one.request == orjson.loads(REQUEST) for one in kept)


@pytest.mark.parametrize("id", ["an-id-of-somebody-s", uuid7_text()])
def test_what_is_not_of_the_share_has_all_but_its_payload_and_says_so(id: str) -> None:
    left_out, whole = record(RecordBuilder(ORIGIN, 0.0), id), record(RecordBuilder(ORIGIN), id)
    assert (left_out.sampled, left_out.request, left_out.response) == (False, {}, {})
    assert whole.sampled
    assert left_out.model_copy(update={"sampled": True, "request": whole.request, "response": whole.response}) == whole


def test_an_endpoint_s_share_holds_from_its_next_revision_on_and_counts_hide_nothing(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    variant = house.serving("credit", classifier()).variants[0]

    def share(payload_sample: float, revision: int) -> None:
        monitor = MonitorSettings(payload_sample=payload_sample)
        worker.deploy(house.change("credit", variant, revision=revision, monitor=monitor))

    with Worker(house) as worker:
        for revision, payload_sample in ((1, 0.0), (2, 1.0), (3, 0.0)):
            share(payload_sample, revision)
            for _ in range(3):
                assert worker.infer("credit", rows([1, 2, 3]), house.token()).status_code == 200
        records = [LogRecord.from_spool(payload) for _, payload in worker.spooled()]
        assert [one.described().get("sampled", True) for one in records] == [False] * 3 + [True] * 3 + [False] * 3
        assert [b"data" in one.request + one.response for one in records] == [False] * 3 + [True] * 3 + [False] * 3
        page = worker.get("/metrics").text
        for name in ("inferences", "rows"):
            assert f'fairlead_scorer_{name}_total{{endpoint="credit",version="1",process="worker-0"}} 9.0' in page
        assert 'fairlead_scorer_spooled_total{process="worker-0"} 9\n' in page
