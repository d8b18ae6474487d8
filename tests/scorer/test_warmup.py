"""Rows to warm a model up with."""

from contracts import Column, ModelSchema, TensorSpec
from services.scorer.warmup import sample

SCHEMA = ModelSchema(
    inputs=(TensorSpec(name="job", datatype="BYTES", shape=(-1, 1)),
            TensorSpec(name="age", datatype="FP32", shape=(-1,))),
    outputs=(), columns=(Column(name="job", kind="categorical"), Column(name="age", minimum=18)), prediction="label",
)  # fmt: skip


def test_a_text_is_a_known_class_or_nothing_is_guessed() -> None:
    assert sample(SCHEMA, 2) is None
    job = Column(name="job", kind="categorical", categories=("nurse", "pilot"))
    made = sample(SCHEMA.model_copy(update={"columns": (job, SCHEMA.columns[1])}), 2)
    assert made is not None and made["job"].tolist() == [[b"nurse"], [b"nurse"]] and made["age"].shape == (2,)
