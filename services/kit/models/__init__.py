"""Models of one table: a matrix in, a decision for each row and perhaps class scores out. One file per format.

Every format is opened inside the sandbox only, wherever it is opened: by the catalog to look at it, by the scorer to
serve it, by the retrainer to compare it. So nothing here needs more than numpy and the format's own library.
"""

import importlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class TableModel(Protocol):
    """An opened model."""

    @property
    def columns(self) -> int:
        """How many it takes; -1 where it does not say."""
        ...

    @property
    def names(self) -> tuple[str, ...] | None:
        """What the file calls its columns, in their order; None where it does not name them."""
        ...

    @property
    def takes_missing(self) -> bool:
        """Whether it has an answer where a value is missing."""
        ...

    @property
    def classes(self) -> Array | None:
        """What a classifier decides between; None for a model that answers numbers."""
        ...

    @property
    def scores(self) -> bool:
        """Whether it has class probabilities."""
        ...

    @property
    def made_with(self) -> str:
        """The library and version that wrote the file, as far as it says."""
        ...

    def predict(self, matrix: Array) -> Array:
        """The decisions, shape [rows], for a matrix [rows, columns] of FP32 or FP64; NaN is a missing value."""
        ...

    def probabilities(self, matrix: Array) -> Array:
        """Class probabilities, shape [rows, classes], in the order of `classes`."""
        ...


class Boosted:
    """What boosted trees have in common: a score for each class, of which the largest decides; or a number."""

    takes_missing = True
    classes: Array | None
    scores: bool

    def predict(self, matrix: Array) -> Array:
        if self.classes is None:
            return self.said(matrix)
        if not self.scores:  # a number for each row, above 0 for the second class
            return self.classes[(self.said(matrix) > 0).astype(int)]
        return self.classes[np.argmax(self.probabilities(matrix), axis=1)]

    def probabilities(self, matrix: Array) -> Array:
        said = self.said(matrix)
        return said if said.ndim == 2 else np.stack([1 - said, said], axis=1)

    def said(self, matrix: Array) -> Array:
        """The library's own answer: [rows], or [rows, classes]."""
        raise NotImplementedError


class UntrustedTypes(ValueError):
    """The file wants types that are built nowhere here."""

    def __init__(self, types: list[str]) -> None:
        super().__init__(f"the model needs types that are not trusted: {', '.join(types)[:500]}")
        self.types = types


class Unreadable(ValueError):
    """These bytes are not a model of the format."""


@dataclass(frozen=True)
class Kind:
    """One format: the module that opens it, and what it stands on."""

    module: str
    distributions: tuple[str, ...]
    """Installed packages that a model of it needs."""
    preload: tuple[str, ...] = ()
    """Modules that are imported late otherwise, where a sandbox's bound on memory counts them."""


KINDS = {
    "sklearn": Kind(
        "skops_file", ("numpy", "scikit-learn", "scipy", "skops"),
        ("sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing"),
    ),
    "xgboost": Kind("xgboost_file", ("numpy", "scipy", "xgboost-cpu")),
    "lightgbm": Kind("lightgbm_file", ("numpy", "scipy", "lightgbm")),
    "rules": Kind("rules_file", ("numpy", "cel-expr-python", "pyyaml")),
}  # fmt: skip


def preload(format: str) -> tuple[str, ...]:
    """What a sandbox imports before it closes, for models of a format; nothing for a format of another kind."""
    kind = KINDS.get(format)
    return (f"{__name__}.{kind.module}", *kind.preload) if kind else ()


def requirements(format: str) -> list[str]:
    """What models of a format stand on here, as `name==version`."""
    return [f"{name}=={version(name)}" for name in KINDS[format].distributions]


def open_table(format: str, data: bytes) -> TableModel:
    """The model in a file's bytes. Raises UntrustedTypes before anything is built, or Unreadable."""
    module = importlib.import_module(f"{__name__}.{KINDS[format].module}")
    return module.open_model(data)


def unreadable(error: Exception) -> Unreadable:
    """What a library said of a file, in one line."""
    return Unreadable(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
