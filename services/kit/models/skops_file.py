"""scikit-learn through skops: types are named before anything is built, and only known ones are built."""

import json
import pickle
import zipfile
from io import BytesIO
from typing import Any

import numpy as np
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from . import Array, UntrustedTypes, unreadable
from .sklearn_checks import spare
from .wire import Tensors

_TRUSTED = frozenset({
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
})  # fmt: skip
"""Compiled parts of scikit-learn's trees, and how a network was trained, which skops leaves to the reader to trust.
They run no code of the file, but check little of its arrays; so scikit-learn models are built in the sandbox only."""

_LIKELIEST = frozenset({
    "BernoulliNB", "DecisionTreeClassifier", "ExtraTreeClassifier", "ExtraTreesClassifier", "GaussianNB",
    "GradientBoostingClassifier", "HistGradientBoostingClassifier", "LogisticRegression", "MLPClassifier",
    "MultinomialNB", "RandomForestClassifier",
})  # fmt: skip
"""Classifiers of scikit-learn that decide for the class which they say is the likeliest, so that one pass gives both.
Others, support vectors before all, decide by something else than their probabilities."""
_TIE = 1e-9
"""Two classes so close are as likely: which one is decided for differs from classifier to classifier."""

_BROKEN = (
    zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, IndexError, ImportError, OSError, EOFError,
    RecursionError, NotImplementedError, UntrustedTypesFoundException, pickle.UnpicklingError,
)  # fmt: skip
"""What skops, numpy and scikit-learn raise on files that they did not write."""


class SklearnModel:
    """An estimator or pipeline."""

    datatype = "FP64"
    takes_missing = False

    def __init__(self, estimator: Any, made_with: str) -> None:
        self._estimator = estimator
        self.made_with = made_with
        self.columns = int(getattr(estimator, "n_features_in_", -1) or -1)
        named = getattr(estimator, "feature_names_in_", None)
        self.names = None if named is None else tuple(map(str, named))
        classes = getattr(estimator, "classes_", None)
        self.classes = None if classes is None else np.asarray(classes)
        self.scores = classes is not None and hasattr(estimator, "predict_proba")
        self._is_likeliest = _decides_for_the_likeliest(estimator)

    def predict(self, matrix: Array) -> Array:
        return np.asarray(self._estimator.predict(matrix))

    def scored(self, matrix: Array) -> tuple[Array, Array]:
        shares = np.asarray(self._estimator.predict_proba(matrix))
        if self.classes is None or not self._is_likeliest:
            return self.predict(matrix), shares
        decided = self.classes[np.argmax(shares, axis=1)]
        two = np.partition(shares, -2, axis=1)[:, -2:]
        if (tied := two[:, 1] - two[:, 0] <= _TIE).any():
            decided[tied] = self.predict(matrix[tied])
        return decided, shares

    def structure(self) -> Tensors | None:
        """Its trees or coefficients; None for pipelines and whatever else."""
        from .sklearn_structure import structure  # takes half a second to import

        return structure(self._estimator)


def _decides_for_the_likeliest(estimator: Any) -> bool:
    """Of a pipeline: its last step; of several outputs or one class alone: no."""
    steps = getattr(estimator, "steps", None)
    kind = type(steps[-1][1] if steps and type(estimator).__name__ == "Pipeline" else estimator)
    classes = np.asarray(getattr(estimator, "classes_", ()), object)
    return (
        kind.__module__.startswith("sklearn.") and kind.__name__ in _LIKELIEST
        and classes.ndim == 1 and len(classes) > 1
    )  # fmt: skip


def open_model(data: bytes) -> SklearnModel:
    """The estimator in a skops file. Raises UntrustedTypes, Unreadable."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            made_with = f"skops {json.loads(archive.read('schema.json'))['_skops_version']}"[:100]
        asked = skops.io.get_untrusted_types(data=data)
        if strangers := sorted({*asked} - _TRUSTED):
            raise UntrustedTypes(strangers)
        estimator = skops.io.loads(data, trusted=asked)
        if not hasattr(estimator, "predict"):
            raise TypeError(f"{type(estimator).__name__} cannot predict")
        spare()
        return SklearnModel(estimator, made_with)
    except UntrustedTypes:
        raise
    except _BROKEN as error:
        raise unreadable(error) from None
