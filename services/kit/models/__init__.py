"""Models that are opened in the sandbox only, wherever they are opened: by the catalog to look at them, by the scorer
to serve them, by the retrainer to compare them. One file per format.

A *table model* is one file: a matrix in, a decision for each row and perhaps class scores out. A *code model* is a
whole package: named tensors in and out. Nothing here needs more than numpy and the format's own library, since code
models, and table models whose package brings locked requirements, run on libraries of their own.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .wire import Array, Tensors


@dataclass(frozen=True)
class Asked:
    """What is known of a model before it is opened: by its package, or by the schema that it was registered with.

    Tensors are mappings of `name`, `datatype` and `shape`, as V2 says them; -1 is the row dimension.
    """

    columns: Sequence[str] = ()
    inputs: Sequence[dict[str, Any]] = ()
    outputs: Sequence[dict[str, Any]] = ()
    prediction: str | None = None
    score: str | None = None


def declared_inputs(asked: Asked) -> Sequence[dict[str, Any]]:
    """The tensors that a package names; one matrix of its columns where it names only these."""
    if asked.inputs or not asked.columns:
        return asked.inputs
    return [{"name": "X", "datatype": "FP64", "shape": [-1, len(asked.columns)]}]


@dataclass(frozen=True)
class Told:
    """What an opened model says of itself."""

    inputs: Sequence[dict[str, Any]] = ()
    outputs: Sequence[dict[str, Any]] = ()
    """Empty where only its first answer will tell."""
    prediction: str | None = None
    """The output with the decision; None: the first one of its answer."""
    score: str | None = None
    names: Sequence[str] | None = None
    """What the model calls the columns of its matrix, in their order."""
    takes_missing: bool = False
    """Whether it has an answer where a value is missing."""
    made_with: str = ""
    params: Sequence[dict[str, Any]] = ()
    """What a request may set: mappings of `name`, `type`, `default` and `shape`, as `contracts.ParamSpec`."""
    untrusted: Sequence[str] = ()
    """Types that kept it from being built."""

    def to_json(self) -> bytes:
        """As bytes; back: `Told(**json.loads(…))`."""
        return json.dumps(asdict(self)).encode()


class TensorModel(Protocol):
    """An opened model, as whoever is outside the sandbox sees it."""

    @property
    def told(self) -> Told: ...

    def predict(self, inputs: Tensors) -> Tensors:
        """All outputs for all inputs, a row for each row."""
        ...


class SetModel(TensorModel, Protocol):
    """One that may be set with each call: it told `params`."""

    def predict(self, inputs: Tensors, params: Mapping[str, Any] | None = None) -> Tensors: ...


class TableModel(Protocol):
    """An opened model."""

    @property
    def columns(self) -> int:
        """How many it takes; -1 where it does not say."""
        ...

    @property
    def datatype(self) -> str:
        """Of its matrix, as V2 says it: FP64, or FP32 where the library itself compares no more than that."""
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

    def scored(self, matrix: Array) -> tuple[Array, Array]:
        """The decisions and the class probabilities, shape [rows, classes] in the order of `classes`. Only where it
        has `scores`."""
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
        return self.scored(matrix)[0]

    def scored(self, matrix: Array) -> tuple[Array, Array]:
        assert self.classes is not None
        said = self.said(matrix)
        shares = said if said.ndim == 2 else np.stack([1 - said, said], axis=1)
        return self.classes[np.argmax(shares, axis=1)], shares

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
    """Installed packages that a model of it needs; `a|b`: one of them."""
    preload: tuple[str, ...] = ()
    """Modules that are imported late otherwise, where a sandbox's bound on memory counts them."""
    is_code: bool = False
    """It is opened out of its whole package, and always on libraries of its own."""


KINDS = {
    "sklearn": Kind(
        "skops_file", ("numpy", "scikit-learn", "scipy", "skops"),
        ("sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing"),
    ),
    "xgboost": Kind("xgboost_file", ("numpy", "scipy", "xgboost-cpu|xgboost")),
    "lightgbm": Kind("lightgbm_file", ("numpy", "scipy", "lightgbm")),
    "rules": Kind("rules_file", ("numpy", "cel-expr-python", "pyyaml")),
    "python": Kind("python_code", ("numpy",), is_code=True),
    "mlflow": Kind("mlflow_folder", ("numpy", "pandas", "mlflow-skinny|mlflow"), is_code=True),
    "river": Kind("river_pickle", ("numpy", "river"), is_code=True),
}  # fmt: skip


def preload(format: str) -> tuple[str, ...]:
    """What a sandbox imports before it closes, for models of a format on the platform's own libraries."""
    if format == "onnx":
        return (f"{__name__}.onnx_session",)
    kind = KINDS.get(format)
    return (f"{__name__}.{kind.module}", *kind.preload) if kind and not kind.is_code else ()


def is_code(format: str) -> bool:
    """Whether a model of a format is its whole package."""
    return format in KINDS and KINDS[format].is_code


def requirements(format: str) -> list[str]:
    """What models of a format stand on here, as `name==version`."""
    names = [each.partition("|")[0] for each in KINDS[format].distributions] if format in KINDS else []
    return [f"{name}=={version(name)}" for name in names]


def open_table(format: str, data: bytes) -> TableModel:
    """The model in a file's bytes. Raises UntrustedTypes before anything is built, or Unreadable."""
    module = importlib.import_module(f"{__name__}.{KINDS[format].module}")
    return module.open_model(data)


def open_code(format: str, folder: Path, file: str, asked: Asked) -> TensorModel:
    """The model in an unpacked package, whose manifest names `file`. Raises Unreadable, or whatever its code does."""
    module = importlib.import_module(f"{__name__}.{KINDS[format].module}")
    return module.open_model(folder, file, asked)


def unreadable(error: Exception) -> Unreadable:
    """What a library said of a file, in one line."""
    return Unreadable(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
