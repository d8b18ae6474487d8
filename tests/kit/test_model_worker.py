"""A real scikit-learn pipeline answers from the sandbox as it does outside."""

import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from services.kit.models import Asked, UntrustedTypes
from services.kit.models.sandboxed import SandboxedModel
from services.kit.models.wire import Tensors, WireError, datatype, pack, unpack
from services.kit.models.worker import Opening, load, model
from services.kit.sandbox import SandboxError
from services.kit.sandbox.package import Altered

ROWS = np.random.default_rng(7).normal(size=(300, 4)).astype(np.float32)
TRUTH = (ROWS.sum(axis=1) > 0).astype(np.int64)


class Stranger(ClassifierMixin, BaseEstimator):
    """An estimator of somebody's own module."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Stranger":  # noqa: N803
        self.classes_ = np.unique(y)
        return self


def _opening(path: Path) -> Opening:
    return Opening("sklearn", str(path), sha256(path.read_bytes()).hexdigest(), path.name, Asked())


def _ask(estimator: object, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """What the entry answers, here in this process: the sandbox needs seconds to import scikit-learn."""
    skops.io.dump(estimator, path)
    said = unpack(model(_opening(path).to_json())(pack({"X": ROWS})))
    decided = said["label"] if "label" in said else said["value"]
    return decided, said.get("probabilities")


async def test_a_pipeline_answers_from_the_sandbox_as_outside_and_survives_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    estimator = make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=10)).fit(ROWS, TRUTH)
    skops.io.dump(estimator, path)
    sandboxed = SandboxedModel(_opening(path), packages=None, memory_mb=1024, deadline_s=60, load_s=60, name="pipeline")
    await sandboxed.start()
    try:
        with pytest.raises(SandboxError, match="features"):
            await sandboxed.predict({"X": ROWS[:, :3]})
        with pytest.raises(SandboxError, match="WireError"):
            await sandboxed.sandbox.call(b"nonsense")
        said = await sandboxed.predict({"X": ROWS})
        assert said["label"].dtype == np.int64
        np.testing.assert_array_equal(said["label"], estimator.predict(ROWS))
        np.testing.assert_allclose(said["probabilities"], estimator.predict_proba(ROWS), rtol=1e-6)
        assert (await sandboxed.told()).outputs[1] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}
        assert sandboxed.sandbox.restarts == 0
    finally:
        await sandboxed.close()


@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), GradientBoostingClassifier(n_estimators=10), HistGradientBoostingClassifier(max_iter=10)],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_classifier_answers_classes_and_probabilities(
    estimator: LogisticRegression | GradientBoostingClassifier | HistGradientBoostingClassifier, tmp_path: Path
) -> None:
    estimator.fit(ROWS, TRUTH)
    predicted, scores = _ask(estimator, tmp_path / "model.skops")
    np.testing.assert_array_equal(predicted, estimator.predict(ROWS))
    assert scores is not None
    np.testing.assert_allclose(scores, estimator.predict_proba(ROWS), rtol=1e-6)


def test_a_regressor_answers_numbers(tmp_path: Path) -> None:
    estimator = LinearRegression().fit(ROWS, ROWS @ [1.0, 2.0, 3.0, 4.0])
    predicted, scores = _ask(estimator, tmp_path / "model.skops")
    np.testing.assert_allclose(predicted, estimator.predict(ROWS), rtol=1e-6)
    assert scores is None


def test_classes_may_be_texts(tmp_path: Path) -> None:
    estimator = LogisticRegression().fit(ROWS, np.where(TRUTH, "geöffnet", "zu"))
    predicted, _ = _ask(estimator, tmp_path / "model.skops")
    assert [text.decode() for text in predicted] == estimator.predict(ROWS).tolist()


def test_a_stranger_s_type_is_refused_before_it_is_built(tmp_path: Path) -> None:
    with pytest.raises(UntrustedTypes, match="Stranger"):
        _ask(Stranger().fit(ROWS, TRUTH), tmp_path / "model.skops")


@pytest.mark.parametrize("name", ["sklearn_evil", "sklearn.evil", "numpy.evil"])
def test_a_file_that_names_itself_like_scikit_learn_is_still_a_stranger(tmp_path: Path, name: str) -> None:
    path, forged = tmp_path / "model.skops", tmp_path / "forged.skops"
    skops.io.dump(Stranger().fit(ROWS, TRUTH), path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(forged, "w") as target:
        for part in source.namelist():
            target.writestr(part, source.read(part).replace(Stranger.__module__.encode(), name.encode()))
    with pytest.raises(UntrustedTypes, match=name):
        load(_opening(forged))


def test_a_file_of_other_bytes_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(LogisticRegression().fit(ROWS, TRUTH), path)
    with pytest.raises(Altered):
        load(replace(_opening(path), digest=sha256(b"other bytes").hexdigest()))


KINDS = [np.bool_, np.int8, np.uint16, np.int32, np.int64, np.uint64, np.float16, np.float32, np.float64]


@given(data=st.data(), kind=st.sampled_from(KINDS), shape=arrays.array_shapes(min_dims=0, max_dims=4, min_side=0))
def test_numbers_read_back(data: st.DataObject, kind: type[np.generic], shape: tuple[int, ...]) -> None:
    values = data.draw(arrays.arrays(kind, shape))
    back = unpack(pack({"ü": values, "b": values[..., None]}))
    np.testing.assert_array_equal(back["ü"], values)
    assert (list(back), back["b"].shape, back["ü"].dtype) == (["ü", "b"], (*shape, 1), values.dtype)


@given(texts=st.lists(st.text(), max_size=5))
def test_texts_read_back_as_their_bytes(texts: list[str]) -> None:
    for values in (np.array(texts, object), np.array([text.encode() for text in texts], object)):
        assert [text.decode() for text in unpack(pack({"t": values}))["t"]] == texts


def test_what_has_no_datatype_goes_as_text() -> None:
    days = np.array(["2026-01-31"], "datetime64[D]")
    assert datatype(days) == "BYTES"
    assert unpack(pack({"d": days}))["d"].tolist() == [b"2026-01-31"]


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"FLT1\1\0\0\0" + tail))
def test_no_bytes_from_a_sandbox_confuse_the_reader(payload: bytes) -> None:
    try:
        tensors: Tensors = unpack(payload)
    except WireError:
        return
    assert unpack(pack(tensors)).keys() == tensors.keys()


@pytest.mark.parametrize("cut", [1, 5, 9, 20, 30])
def test_bytes_that_break_off_are_refused(cut: int) -> None:
    whole = pack({"X": ROWS[:2], "t": np.array(["a", "bc"], object)})
    with pytest.raises(WireError):
        unpack(whole[:-cut])
