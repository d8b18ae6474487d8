"""A real scikit-learn pipeline answers from the sandbox as it does outside."""

import zipfile
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

from services.kit.models import UntrustedTypes, preload
from services.kit.sandbox import Sandbox, SandboxError
from services.scorer.runtimes import table_worker as worker

ENTRY = "services.scorer.runtimes.table_worker:table_model"
ROWS = np.random.default_rng(7).normal(size=(300, 4)).astype(np.float32)
TRUTH = (ROWS.sum(axis=1) > 0).astype(np.int64)


class Stranger(ClassifierMixin, BaseEstimator):
    """An estimator of somebody's own module."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Stranger":  # noqa: N803
        self.classes_ = np.unique(y)
        return self


def _ask(estimator: object, path: Path, *, probabilities: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """What the entry answers, here in this process: the sandbox needs seconds to import scikit-learn."""
    skops.io.dump(estimator, path)
    model = worker.table_model(worker.argument("sklearn", str(path), sha256(path.read_bytes()).hexdigest()))
    return worker.read_answer(model(worker.request(ROWS, probabilities=probabilities)))


async def test_a_pipeline_answers_from_the_sandbox_as_outside_and_survives_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    estimator = make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=10)).fit(ROWS, TRUTH)
    skops.io.dump(estimator, path)
    sandbox = Sandbox(
        ENTRY,
        worker.argument("sklearn", str(path), sha256(path.read_bytes()).hexdigest()),
        preload=preload("sklearn"),
        readable=[path],
        deadline_s=60,
    )
    await sandbox.start()
    try:
        with pytest.raises(SandboxError, match="features"):
            await sandbox.call(worker.request(ROWS[:, :3], probabilities=False))
        with pytest.raises(SandboxError, match="WireError"):
            await sandbox.call(b"nonsense")
        predicted, scores = worker.read_answer(await sandbox.call(worker.request(ROWS, probabilities=True)))
        assert predicted.dtype == np.int64
        np.testing.assert_array_equal(predicted, estimator.predict(ROWS))
        assert scores is not None
        np.testing.assert_allclose(scores, estimator.predict_proba(ROWS), rtol=1e-6)
        assert sandbox.restarts == 0
    finally:
        await sandbox.close()


@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), GradientBoostingClassifier(n_estimators=10), HistGradientBoostingClassifier(max_iter=10)],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_classifier_answers_classes_and_probabilities(
    estimator: LogisticRegression | GradientBoostingClassifier | HistGradientBoostingClassifier, tmp_path: Path
) -> None:
    estimator.fit(ROWS, TRUTH)
    predicted, scores = _ask(estimator, tmp_path / "model.skops", probabilities=True)
    np.testing.assert_array_equal(predicted, estimator.predict(ROWS))
    assert scores is not None
    np.testing.assert_allclose(scores, estimator.predict_proba(ROWS), rtol=1e-6)


def test_a_regressor_answers_numbers(tmp_path: Path) -> None:
    estimator = LinearRegression().fit(ROWS, ROWS @ [1.0, 2.0, 3.0, 4.0])
    predicted, scores = _ask(estimator, tmp_path / "model.skops", probabilities=False)
    np.testing.assert_allclose(predicted, estimator.predict(ROWS), rtol=1e-6)
    assert scores is None


def test_classes_may_be_texts(tmp_path: Path) -> None:
    estimator = LogisticRegression().fit(ROWS, np.where(TRUTH, "geöffnet", "zu"))
    predicted, _ = _ask(estimator, tmp_path / "model.skops", probabilities=True)
    assert [text.decode() for text in predicted] == estimator.predict(ROWS).tolist()


def test_a_stranger_s_type_is_refused_before_it_is_built(tmp_path: Path) -> None:
    with pytest.raises(UntrustedTypes, match="Stranger"):
        _ask(Stranger().fit(ROWS, TRUTH), tmp_path / "model.skops", probabilities=False)


@pytest.mark.parametrize("name", ["sklearn_evil", "sklearn.evil", "numpy.evil"])
def test_a_file_that_names_itself_like_scikit_learn_is_still_a_stranger(tmp_path: Path, name: str) -> None:
    path, forged = tmp_path / "model.skops", tmp_path / "forged.skops"
    skops.io.dump(Stranger().fit(ROWS, TRUTH), path)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(forged, "w") as target:
        for part in source.namelist():
            target.writestr(part, source.read(part).replace(Stranger.__module__.encode(), name.encode()))
    with pytest.raises(UntrustedTypes, match=name):
        worker.load("sklearn", str(forged), sha256(forged.read_bytes()).hexdigest())


def test_a_file_of_other_bytes_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(LogisticRegression().fit(ROWS, TRUTH), path)
    with pytest.raises(worker.Altered):
        worker.load("sklearn", str(path), sha256(b"other bytes").hexdigest())


@given(matrix=arrays.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(0, 5))), probabilities=st.booleans())
def test_a_request_reads_back(matrix: np.ndarray, probabilities: bool) -> None:
    back, flag = worker.read_request(worker.request(matrix, probabilities=probabilities))
    np.testing.assert_array_equal(back, matrix)
    assert flag == probabilities


@given(data=st.data(), rows=st.integers(0, 5), classes=st.integers(1, 3))
def test_an_answer_reads_back(data: st.DataObject, rows: int, classes: int) -> None:
    kind = data.draw(st.sampled_from([np.int64, np.float64, np.bool_]))
    predictions = data.draw(arrays.arrays(kind, rows))
    scores = data.draw(st.none() | arrays.arrays(np.float32, (rows, classes)))
    back, back_scores = worker.read_answer(worker.answer(predictions, scores))
    np.testing.assert_array_equal(back, predictions)
    assert (back_scores is None) == (scores is None)
    if scores is not None:
        np.testing.assert_array_equal(back_scores, scores)


@given(texts=st.lists(st.text(), max_size=5))
def test_texts_read_back(texts: list[str]) -> None:
    back, _ = worker.read_answer(worker.answer(np.array(texts, object), None))
    assert [text.decode() for text in back] == texts


@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"FLA1" + tail))
def test_no_bytes_from_a_sandbox_confuse_the_reader(payload: bytes) -> None:
    try:
        predictions, _ = worker.read_answer(payload)
    except worker.WireError:
        return
    assert worker.answer(predictions, _)[:4] == b"FLA1"
