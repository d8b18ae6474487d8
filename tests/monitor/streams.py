"""Seeded streams for tests: a reference, and rows that depart from it or do not."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from contracts import Column, ModelSchema, Profile, TensorSpec
from services.kit.profiles import Binner, build_profile
from services.monitor.domain.reference import Reference
from services.monitor.domain.windows import Block
from services.monitor.usecases.versions import Watched

NAMES = ("a", "b", "c", "d", "colour")
SHARES = (0.5, 0.3, 0.15, 0.05)


def schema() -> ModelSchema:
    columns = [Column(name=n, kind="categorical" if n == "colour" else "numeric", nullable=True) for n in NAMES]
    return ModelSchema(
        inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, len(NAMES))),),
        outputs=(
            TensorSpec(name="label", datatype="INT64", shape=(-1,)),
            TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 2)),
        ),
        columns=tuple(columns),
        prediction="label",
        score="probabilities",
    )


@dataclass
class World:
    """Rows of four correlated numbers and a colour, with a prediction that follows from them."""

    random: np.random.Generator

    def rows(self, count: int, change: str | None = None) -> np.ndarray:
        """[count, 6]: the features and the prediction."""
        common = self.random.normal(size=(count, 1))
        numbers = 0.7 * common + self.random.normal(size=(count, 4))
        shares = (0.25, 0.3, 0.15, 0.3) if change == "classes" else SHARES
        colour = self.random.choice(4, size=count, p=shares).astype(float)
        if change == "shift":
            numbers[:, 0] += 0.6
        if change == "tiny":
            numbers[:, 0] += 0.08
        if change == "spread":
            numbers[:, 1] *= 1.6
        if change == "correlation":
            numbers[:, 0] = self.random.permutation(numbers[:, 0])
        label = (numbers.sum(axis=1) + 0.3 * self.random.normal(size=count) > 0).astype(float)
        return np.column_stack([numbers, colour, label])


def profile(random: np.random.Generator, rows: int = 6_000) -> Profile:
    return profile_of(World(random).rows(rows))


def profile_of(made: np.ndarray) -> Profile:
    """Of the rows [rows, 6] that a model was made from."""
    return build_profile(pa.table({name: made[:, i] for i, name in enumerate((*NAMES, "label"))}), schema())


def watched(random: np.random.Generator, rows: int = 6_000) -> Watched:
    return Watched.of("model", schema(), profile(random, rows))


def watched_of(made: np.ndarray) -> Watched:
    """With a reference of these rows [rows, 6]."""
    return Watched.of("model", schema(), profile_of(made))


def reference_of(one: Watched) -> Reference:
    assert one.reference is not None
    return one.reference


def binner_of(one: Watched) -> Binner:
    assert one.binner is not None
    return one.binner


def blocks(one: Watched, rows: np.ndarray, size: int = 100, start_s: float = 0.0) -> list[Block]:
    """One row a second."""
    binner = binner_of(one)
    bins = binner.bin({name: rows[:, i] for i, name in enumerate((*NAMES, "label"))}, len(rows))
    return [
        Block(start_s + at, len(bins[at : at + size]), binner.count(bins[at : at + size]))
        for at in range(0, len(rows), size)
    ]
