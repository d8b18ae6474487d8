"""Record batches with headers encoded before are, byte for byte, what aiokafka's own builder makes."""

from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from services.kit.recordbatch import OPEN, RecordBatch, block, length, pieces

contents = st.none() | st.binary(max_size=200) | st.integers(0, 20_000).map(bytes)
headers = st.lists(st.tuples(st.text(max_size=80), st.binary(max_size=200)), max_size=12)


@given(st.lists(st.tuples(contents, contents, headers), min_size=1, max_size=40))
def test_a_batch_is_what_aiokafka_builds(records: list[tuple[bytes | None, bytes | None, Any]]) -> None:
    ours, theirs = RecordBatch(900_000, transactional=True), BatchBuilder(900_000, 0, is_transactional=1)
    for key, value, said in records:
        assert ours.extend([(key, value, block(said))]) == 1
        theirs.append(timestamp=ours.at_ms, key=key, value=value, headers=said)
    assert ours.size() == theirs.size()
    ours._set_producer_state(7, 3, 12345)
    theirs._set_producer_state(7, 3, 12345)
    assert ours._build() == theirs._build() == ours._build()


def test_headers_that_have_no_content_are_null() -> None:
    batch = RecordBatch(1_000, transactional=False)
    batch.extend([(b"k", b"v", block([("there", b""), ("not", None)]))])
    found = MemoryRecords(bytes(batch._build())).next_batch()
    assert found is not None
    [record] = found
    assert list(record.headers) == [("there", b""), ("not", None)]


@given(st.binary(min_size=5, max_size=5), st.binary(max_size=9000))
def test_pieces_with_contents_between_them_are_the_block(fixed: bytes, open: bytes) -> None:
    one, two, three = pieces([("a", b"x"), ("fixed", 5), ("b", b"y"), ("open", OPEN), ("c", b"z")])
    whole = block([("a", b"x"), ("fixed", fixed), ("b", b"y"), ("open", open), ("c", b"z")])
    assert one + fixed + two + length(open) + open + three == whole


def test_a_block_needs_all_contents() -> None:
    with pytest.raises(ValueError):
        block([("fixed", 5)])


def test_a_full_batch_takes_no_more_and_a_first_record_always_fits() -> None:
    batch = RecordBatch(1_000, transactional=True)
    assert batch.extend([(None, bytes(5_000), block([])), (None, b"", block([]))]) == 1 and batch.size() > 5_000
    assert not batch.extend([(None, b"", block([]))]) and batch.closed() and batch.record_count() == 1
