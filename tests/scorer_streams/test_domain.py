"""Identities of streamed inferences, and the memory of what was answered."""

from uuid import uuid5

from hypothesis import given
from hypothesis import strategies as st

from services.scorer.streams.domain import INFERENCES, Answered, Identities, at, key_of, place


def inference_id(endpoint: str, source: str, id: str) -> str:
    [made], _ = Identities(endpoint).of([(source, id)])
    return made


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_id_is_the_uuid5_of_endpoint_source_and_id(source: str, id: str) -> None:
    try:
        name = f"loans\n{source}\n{id}"
        name.encode()
    except UnicodeEncodeError:
        return
    assert inference_id("loans", source, id) == str(uuid5(INFERENCES, name))


def test_two_endpoints_never_share_an_inference() -> None:
    assert inference_id("loans", "/till", "1") != inference_id("cards", "/till", "1")


@given(st.integers(0, 2**15), st.integers(0, 2**48 - 1))
def test_a_place_is_a_partition_and_an_offset(partition: int, offset: int) -> None:
    assert at(place(partition, offset)) == (partition, offset)


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=300), st.integers(1, 50))
def test_every_remembered_answer_is_found_where_it_stands(keys: list[int], segment: int) -> None:
    answered = Answered(limit=1_000, segment_size=segment)
    for i, key in enumerate(keys):
        answered.add([key], [i], now_ms=1_000)
    strangers = [key + 1 for key in keys if key + 1 < 2**64 and key + 1 not in keys]
    assert answered.find(keys) == dict(enumerate(range(len(keys))))
    assert answered.find(strangers) == {}


def test_the_oldest_answers_are_forgotten_first_and_none_beyond_a_day() -> None:
    answered = Answered(limit=20, keep_ms=1_000, segment_size=10)
    for i in range(40):
        answered.add([i], [i], now_ms=10)
    assert set(answered.find(range(40)).values()) == set(range(20, 40))
    for i in range(100, 110):
        answered.add([i], [i], now_ms=5_000)
    assert set(answered.find([20, 105])) == {1}


def test_the_key_of_an_id_uses_its_random_bits_only() -> None:
    ids, keys = Identities("loans").of([("/till", str(i)) for i in range(10_000)])
    assert len(set(ids)) == len(set(keys)) == len(ids)
    assert keys == [key_of(id) for id in ids]
