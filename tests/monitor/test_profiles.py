"""Baseline profiles: what they keep of reference rows, and the bins of new rows."""

import numpy as np
import pyarrow as pa
import pytest

from contracts import CategoricalProfile, Column, ModelSchema, NumericProfile, Profile, TensorSpec
from services.kit.profiles import Binner, build_profile


def schema(*columns: Column, datatype: str = "INT64") -> ModelSchema:
    return ModelSchema(
        inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, len(columns))),),
        outputs=(TensorSpec(name="label", datatype=datatype, shape=(-1,)),),  # pyright: ignore[reportArgumentType]
        columns=columns,
        prediction="label",
    )


def reference(rows: int = 4_000, seed: int = 1) -> pa.Table:
    random = np.random.default_rng(seed)
    age = random.integers(0, 90, rows).astype(np.float32)
    income = random.lognormal(10, 1, rows).astype(np.float32) + age
    sex = random.integers(1, 3, rows).astype(np.float32)
    return pa.table({"age": age, "income": income, "sex": sex, "label": (income > 30_000).astype(np.int64), "y": sex})


SCHEMA = schema(
    Column(name="age"), Column(name="income", nullable=True), Column(name="sex", kind="categorical"),
)  # fmt: skip


def test_a_profile_is_the_same_each_time_and_small() -> None:
    one, two = build_profile(reference(), SCHEMA), build_profile(reference(), SCHEMA)
    assert one == two
    assert len(one.model_dump_json()) < 60_000
    assert Profile.model_validate_json(one.model_dump_json()) == one


def test_it_watches_the_features_and_the_prediction_but_not_the_label() -> None:
    profile = build_profile(reference(), SCHEMA, label="y")
    assert [(c.name, c.role, c.kind) for c in profile.columns] == [
        ("age", "feature", "numeric"),
        ("income", "feature", "numeric"),
        ("sex", "feature", "categorical"),
        ("label", "prediction", "categorical"),
    ]
    assert profile.label is not None and profile.label.name == "y"
    assert profile.rotation is not None and profile.rotation.columns == ("age", "income", "sex")


def test_counts_are_of_the_half_that_made_no_bins() -> None:
    profile = build_profile(reference(4_001), SCHEMA)
    assert (profile.rows, profile.counted) == (4_001, 2_000)
    assert {sum(column.counts) + column.missing for column in profile.columns} == {2_000}


def test_thirty_columns_of_a_hundred_bins_stay_under_the_limit() -> None:
    rows = np.random.default_rng(3).normal(size=(5_000, 30))
    names = [f"f{i}" for i in range(30)]
    table = pa.table({name: rows[:, i] for i, name in enumerate(names)} | {"label": rows[:, 0]})
    profile = build_profile(table, schema(*(Column(name=n) for n in names), datatype="FP64"))
    assert all(isinstance(c, NumericProfile) and len(c.counts) == 102 for c in profile.columns)
    assert len(profile.model_dump_json()) < 200_000


def test_a_number_falls_into_one_bin_whatever_its_precision() -> None:
    table = pa.table({"x": np.repeat(np.array([0.1, 0.2, 0.3], np.float32), 40), "label": np.zeros(120)})
    binner = Binner(build_profile(table, schema(Column(name="x"))))
    single, double = (binner.bin({"x": np.array([0.1, 0.2, 0.3], t)}, 3)[:, 0] for t in (np.float32, np.float64))
    assert single.tolist() == double.tolist() == [1, 2, 3]


def test_axes_that_an_older_profile_counted_by_size_are_counted_so() -> None:
    profile = build_profile(reference(), SCHEMA)
    assert profile.rotation is not None and profile.rotation.signed
    assert min(profile.rotation.axes[0].edges) < 0
    sized = profile.model_dump(mode="json")
    del sized["rotation"]["signed"]
    for axis in sized["rotation"]["axes"]:
        axis["edges"], axis["counts"] = [1.0], [1, 1]
    binner = Binner(Profile.model_validate(sized))
    ages = np.sort(reference()["age"].to_numpy())[[0, -1]]
    bins = binner.bin({"age": ages, "income": np.array([1.0, 1.0]), "sex": np.array([1.0, 1.0])}, 2)
    turned = Binner(profile).bin({"age": ages, "income": np.array([1.0, 1.0]), "sex": np.array([1.0, 1.0])}, 2)
    assert set(bins[:, len(profile.columns) :].ravel().tolist()) <= {0, 1}
    assert (turned[0] != turned[1]).any()


def test_missing_and_unseen_values_have_bins_of_their_own() -> None:
    binner = Binner(build_profile(reference(), SCHEMA))
    rows = {"age": np.array([1.0, np.nan]), "sex": np.array([3.0, None], object), "label": np.array([1, 0])}
    bins = binner.bin(rows, 2)
    age, income, sex = (int(binner.sizes[i]) for i in range(3))
    assert bins[1, 0] == age
    assert bins[:, 1].tolist() == [income, income], "a column that is not there is missing"
    assert bins[:, 2].tolist() == [sex + 1, sex]


def test_texts_are_classes() -> None:
    table = pa.table({"city": ["Bern", "Basel", None, "Bern"] * 20, "label": np.zeros(80, np.int64)})
    profile = build_profile(table, schema(Column(name="city")))
    city = profile.columns[0]
    assert isinstance(city, CategoricalProfile) and city.classes == ("Basel", "Bern")
    bins = Binner(profile).bin({"city": np.array([b"Bern", "Oslo", None], object)}, 3)
    assert bins[:, 0].tolist() == [1, 3, 2]


def test_many_texts_are_the_most_frequent_classes_and_one_bin_of_others() -> None:
    cities = [f"city {n:03}" for n in range(300) for _ in range(20 if n < 150 else 4)]
    prose = [f"what {n} said " + "at length " * 30 for n in range(len(cities))]
    names = [f"name {n}" for n in range(len(cities))]
    table = pa.table({"city": cities, "prose": prose, "name": names, "label": np.zeros(len(cities), np.int64)})
    profile = build_profile(table, schema(Column(name="city"), Column(name="prose"), Column(name="name")))
    city, written, name = (column for column in profile.columns[:3] if isinstance(column, CategoricalProfile))
    assert len(city.classes) == 200 and {f"city {n:03}" for n in range(150)} <= set(city.classes)
    assert 0 < city.unseen < 300 and sum(city.counts) + city.unseen == profile.counted
    assert written.classes == name.classes == (), "what is there once is a row, not a class"
    assert written.unseen == name.unseen == profile.counted
    rows = {"city": np.array(["city 000", "city 999"], object), "prose": np.array(["new", None], object)}
    bins = Binner(profile).bin(rows, 2)
    assert bins[:, 0].tolist() == [city.classes.index("city 000"), 201] and bins[:, 1].tolist() == [1, 0]


def test_sensitive_columns_are_not_profiled() -> None:
    columns = (Column(name="age"), Column(name="sex", sensitive=True))
    assert [c.name for c in build_profile(reference(), schema(*columns)).columns] == ["age", "label"]


def test_binning_rows_at_once_or_one_by_one_is_the_same() -> None:
    table = reference(500, seed=7)
    binner = Binner(build_profile(reference(), SCHEMA))
    columns = {name: table[name].to_numpy() for name in binner.names}
    at_once = binner.bin(columns, 500)
    singly = [binner.bin({n: v[i : i + 1] for n, v in columns.items()}, 1)[0] for i in range(500)]
    assert np.array_equal(at_once, np.array(singly))
    assert np.array_equal(binner.count(at_once), sum(binner.count(row[None]) for row in singly))


def test_a_constant_column_that_changes_is_seen() -> None:
    table = pa.table({"x": np.full(50, 7.0), "label": np.zeros(50)})
    bins = Binner(build_profile(table, schema(Column(name="x")))).bin({"x": np.array([6.9, 7.0, 7.1])}, 3)
    assert bins[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_reference_of_hardly_any_rows_is_taken(rows: int) -> None:
    profile = build_profile(reference(rows), SCHEMA)
    assert profile.rows == rows
    Binner(profile).bin({"age": np.array([1.0])}, 1)
