"""How far counts of new rows are from a baseline's: told in plain numbers, largest first."""

from dataclasses import asdict

import numpy as np
import orjson
import pyarrow as pa

from contracts import Column, ModelSchema, TensorSpec
from services.kit.effects import moved
from services.kit.profiles import Binner, build_profile

SCHEMA = ModelSchema(
    inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, 2)),),
    outputs=(TensorSpec(name="label", datatype="INT64", shape=(-1,)),),
    columns=(Column(name="size"), Column(name="kind", kind="categorical", categories=(0.0, 1.0, 2.0))),
    prediction="label",
)


def rows(shift: float, kinds: tuple[float, float, float], count: int = 4000) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {
        "size": random.normal(size=count) + shift, "kind": random.choice([0.0, 1.0, 2.0], count, p=kinds),
        "label": random.integers(0, 2, count).astype(float),
    }  # fmt: skip


def test_what_moved_is_told_first_with_its_size_and_an_interval_that_holds_it() -> None:
    binner = Binner(build_profile(pa.table(rows(0, (0.5, 0.3, 0.2))), SCHEMA))
    live = rows(0.5, (0.2, 0.3, 0.5))
    found = moved(binner, binner.count(binner.bin(live, 4000)))
    by_name = {each.name: each for each in found}
    size, kind = by_name["size"], by_name["kind"]
    assert (size.measure, kind.measure) == ("location", "distribution")
    assert size.low < 0.5 < size.high and 0.4 < size.effect < 0.6
    assert kind.effect > 0.25 and kind.low > 0
    assert abs(by_name["label"].effect) < 0.1
    assert [each.name for each in found].index("label") == len(found) - 1
    assert orjson.loads(orjson.dumps([asdict(each) for each in found])), "plain numbers, for whoever writes them down"
