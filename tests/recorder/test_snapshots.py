"""What a snapshot holds, from files and labels to the object in the store."""

import numpy as np
import pytest

from services.recorder.domain.layout import Body, Place, file_name, folder

from .house import AT, House

pytestmark = pytest.mark.usefixtures("as_the_recorder")


async def test_a_column_may_be_called_as_what_a_snapshot_says_about_a_row(house: House) -> None:
    names = ["row", "received_at", "inference_id", "version", "prediction", "score", "label", "features", "texts"]
    await house.learn(*names)
    await house.record("one", 0, {name: [float(n), n + 0.5] for n, name in enumerate(names)}, [1.0, 0.0])
    await house.observe("one", 1, 7.0)
    rows = (await house.snapshot()).to_pylist()
    assert [row["features"] for row in rows] == [
        {name: float(n) for n, name in enumerate(names)}, {name: n + 0.5 for n, name in enumerate(names)}
    ]  # fmt: skip
    assert [(row["inference_id"], row["row"], row["received_at"]) for row in rows] == [("one", 0, AT), ("one", 1, AT)]
    assert [(row["version"], row["prediction"], row["score"]) for row in rows] == [(2, 1.0, 0.75), (2, 0.0, 0.75)]
    assert [row["label"] for row in rows] == [None, 7.0]


async def test_rows_of_many_files_come_in_order_whatever_a_column_or_a_label_is_in_each(house: House) -> None:
    await house.learn("size", "city")
    await house.record("first", 0, {"size": [1.0], "city": ["Bern"]}, [1.0])
    await house.record("second", 1, {"size": [2.0]}, [1.0])
    await house.record("third", 2, {"size": [3.0, 4.0], "city": [5.0, "Chur"]}, [1.0, 0.0])
    await house.observe("first", 0, 1.0)
    await house.observe("third", 1, "yes")
    rows = (await house.snapshot()).to_pylist()
    assert [(row["features"]["size"], row["features"]["city"], row["texts"]["city"]) for row in rows] == [
        (1.0, None, "Bern"), (2.0, None, None), (3.0, 5.0, None), (4.0, None, "Chur")
    ]  # fmt: skip
    assert [(row["label"], row["label_text"]) for row in rows] == [
        (1.0, None),
        (None, None),
        (None, None),
        (None, "yes"),
    ]


async def test_params_of_a_request_stay_with_its_rows_beside_files_of_before_there_were_any(house: House) -> None:
    await house.learn("size")
    before = Body({"size": np.ones(1)}, np.ones(1), None)
    await house.write([house.head("before", 0)], before, without=["params"])
    await house.record("none", 1, {"size": [2.0]}, [1.0])
    await house.record("set", 2, {"size": [3.0, 4.0]}, [1.0, 0.0], params='{"threshold":1.0}')
    assert (await house.snapshot())["params"].to_pylist() == [None, None, '{"threshold":1.0}', '{"threshold":1.0}']


async def test_the_newest_files_that_fit_are_taken_and_one_that_is_lost_stops_nothing(house: House) -> None:
    await house.learn("size")
    for minute in range(4):
        await house.record(f"inference-{minute}", minute, {"size": [float(minute)] * 3}, [1.0] * 3)
    house.files.remove(Place(f"{folder('sizes', AT)}/{file_name(0, 30, 39)}"))
    found = await house.snapshot(rows_at_most=9)
    assert found["row"].to_pylist() == [0, 1, 2] * 2
    assert list(dict.fromkeys(found["inference_id"].to_pylist())) == ["inference-1", "inference-3"]


async def test_the_same_request_gives_the_same_bytes_however_rows_lie_in_files(house: House) -> None:
    await house.learn("size")
    for minute in (3, 1, 2, 0, 90, 4):  # later files may hold earlier decisions
        await house.record(f"inference-{9 - minute % 10}-{minute}", minute, {"size": [float(minute)] * 2}, [1.0, 0.0])
    await house.observe("inference-8-1", 1, 1.0)
    first, again = await house.freeze(), await house.freeze()
    await house.compact()
    assert len(house.names()) == 2
    assert first == again == await house.freeze()
    times = (await house.snapshot())["received_at"].to_pylist()
    assert times == sorted(times) and len(times) == 12
    assert (await house.freeze(rows_at_most=6)).rows == 6
