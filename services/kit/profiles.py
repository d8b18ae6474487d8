"""Baseline profiles: made from reference rows, and the bins that they give to new ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contracts import ModelSchema
from contracts.profile import CategoricalProfile, ColumnProfile, NumericProfile, Profile, Role, Rotation

from .binned import packed
from .cuts import cuts, short
from .segments import segmented
from .together import AT_MOST, Together, rotation

Array = NDArray[Any]

_BINS, _BINS_OF_MANY, _MANY_COLUMNS = 100, 32, 100
_CLASSES_AT_MOST = 200
_LONGEST_CLASS = 200
"""Letters of a text that can be a class; a longer one is prose."""


def build_profile(
    table: pa.Table, schema: ModelSchema, prediction_column: str | None = None, label: str | None = None
) -> Profile:
    """The profile of reference rows: a deterministic function of them.

    `prediction_column` is the model's own decision on each row, by default the column named as the schema's
    prediction; without one, only the features are watched. Sensitive columns are left out: live ones are tokens.
    """
    order = np.random.default_rng(0).permutation(table.num_rows)
    half = (table.num_rows + 1) // 2
    learnt, counted = order[:half], order[half:] if table.num_rows > 1 else order
    bins = _BINS if len(schema.columns) <= _MANY_COLUMNS else _BINS_OF_MANY
    watched = _watched(schema, table, prediction_column or schema.prediction)
    values = {name: _values(table[name]) for name, _, _ in watched}
    columns = [_column(name, role, kind, values[name], learnt, counted, bins) for name, role, kind in watched]
    rotation = _rotation([c for c in columns if c.role == "feature"], values, learnt, counted, bins)
    profile = Profile(
        rows=table.num_rows, counted=len(counted), columns=tuple(columns), rotation=rotation,
        label=_label(table, schema, label, learnt, counted, bins),
    )  # fmt: skip
    if not any(column.segment for column in schema.columns):
        return profile
    of_rows = Binner(profile).bin({name: each[counted] for name, each in values.items()}, len(counted))
    return profile.model_copy(update={"segmented": segmented(profile, schema.columns, of_rows)})


@dataclass(frozen=True)
class _Bins:
    """How one column is cut: values, then one bin of missing and one of unseen values."""

    size: int
    edges: Array | None
    classes: Array | None

    @property
    def missing(self) -> int:
        return self.size

    def of(self, values: Array) -> Array:
        """The bin of each value."""
        if self.edges is not None:
            numbers = numeric(values)
            bins = np.searchsorted(self.edges, numbers, side="left")
            bins[np.isnan(numbers)] = self.missing
            return bins
        return self._of_classes(values)

    def _of_classes(self, values: Array) -> Array:
        assert self.classes is not None
        if self.classes.dtype == object:
            return self._of_texts(values)
        keys, missing = _or_unseen(values)
        places = np.searchsorted(self.classes, keys)
        places[places == self.size] = 0
        known = self.classes[places] == keys if self.size else np.zeros(len(values), bool)
        bins = np.where(known, places, self.missing + 1)
        bins[missing] = self.missing
        return bins

    def _of_texts(self, values: Array) -> Array:
        unseen, missing = self.missing + 1, self.missing
        given = values.tolist()
        return np.array(
            [missing if v is None or v != v else self._places.get(_text(v), unseen) for v in given], np.int64
        )

    @cached_property
    def _places(self) -> dict[str, int]:
        assert self.classes is not None
        return {text: place for place, text in enumerate(self.classes.tolist())}


class Binner:
    """Compiled from a profile: turns rows into bins, all watched columns and what they are together at once.

    A bin matrix is [rows, watched columns, axes and residuals]; in each column the bins 0 … `sizes` - 1 are the
    profile's, the next one is of missing, the one after it of unseen values. Counts have a row for each of its
    columns, then sheets, on which pairs of columns lie side by side. Of the profile itself nothing is kept: as a model
    of Python's numbers it takes four times as much memory.
    """

    def __init__(self, profile: Profile) -> None:
        self._bins = [_bins_of(column) for column in profile.columns]
        self._together = Together.of(profile)
        turned = _turned(profile)
        self.names = [column.name for column in profile.columns]
        self.kinds = [column.kind for column in profile.columns]
        self.roles = [column.role for column in profile.columns]
        self.sizes = np.array([b.size for b in self._bins] + [len(each) for each in turned], np.int64)
        self.width = int(self.sizes.max(initial=0)) + 2
        self.reference = self._counts_of(profile)
        """The profile's own counts [tracks, width]."""

    @property
    def tracks(self) -> int:
        """Rows of counts: watched columns, axes, residuals and sheets of pairs."""
        return len(self.reference)

    @property
    def far(self) -> Array:
        """Share of the profile's rows in which each paired column, in the rotation's order, is far out."""
        if self._together is None:
            return np.zeros(0)
        sides = self._together.sides != 0
        counts = self.reference[self._together.places[: len(sides)], : sides.shape[1]]
        return (counts * sides).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)

    def bin(self, columns: Mapping[str, Array], rows: int) -> Array:
        """Bins of columns by name; a column that is not there is missing in every row."""
        made = np.empty((rows, len(self.sizes)), np.int64)
        for place, (name, bins) in enumerate(zip(self.names, self._bins, strict=True)):
            values = columns.get(name)
            made[:, place] = bins.missing if values is None else bins.of(values)
        if self._together:
            made[:, len(self._bins) :] = self._together.bins(made)
        return made

    def count(self, bins: Array) -> Array:
        """Counts [tracks, width] of a bin matrix."""
        placed = len(self.sizes)
        flat = bins + np.arange(placed) * self.width
        counts = np.bincount(flat.ravel(), minlength=placed * self.width).reshape(placed, self.width)
        return counts if self._together is None else np.vstack([counts, self._together.sheets(bins, self.width)])

    def _counts_of(self, profile: Profile) -> Array:
        counts = np.zeros((len(self.sizes), self.width), np.int64)
        for place, column in enumerate(profile.columns):
            counts[place, : len(column.counts)] = column.counts
            counts[place, len(column.counts)] = column.missing
            counts[place, len(column.counts) + 1] = getattr(column, "unseen", 0)
        if self._together is None:
            return counts
        for place, each in enumerate(_turned(profile), len(self._bins)):
            counts[place, : len(each)] = each
        pairs = profile.rotation.pairs if profile.rotation else None
        return np.vstack([counts, packed(np.array(pairs.counts), self.width)]) if pairs else counts


def _turned(profile: Profile) -> list[tuple[int, ...]]:
    """Counts of axes and residuals."""
    given = profile.rotation
    return [each.counts for each in (*given.axes, *(given.residuals or ()))] if given else []


def numeric(values: Array) -> Array:
    """Numbers as float64; None and what is no number become NaN."""
    if values.dtype != object:
        return values.astype(np.float64)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return np.array([_number(value) for value in values.tolist()], np.float64)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else np.nan


def _or_unseen(values: Array) -> tuple[Array, Array]:
    """Numbers and which are missing; a text among the classes of a numeric column is unseen, not missing."""
    keys = numeric(values)
    missing = np.isnan(keys)
    if values.dtype == object and missing.any():
        strings = np.array([isinstance(value, (str, bytes)) for value in values.tolist()], bool)
        keys, missing = np.where(strings, np.inf, keys), missing & ~strings
    return keys, missing


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values(column: pa.ChunkedArray) -> Array:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.array(column.to_pylist(), object)


def _watched(schema: ModelSchema, table: pa.Table, prediction: str) -> list[tuple[str, Role, str]]:
    """Name, role and kind of each watched column that the table has."""
    here = set(table.column_names)
    found: list[tuple[str, Role, str]] = [
        (column.name, "feature", _kind(table, column.name, column.kind))
        for column in schema.columns
        if column.name in here and not column.sensitive
    ]
    datatypes = {output.name: output.datatype for output in schema.outputs}
    if prediction in here:
        is_number = datatypes.get(schema.prediction, "FP32").startswith("FP")
        found.append((prediction, "prediction", _kind(table, prediction, "numeric" if is_number else "categorical")))
    if schema.score in here and schema.score != prediction:
        found.append((str(schema.score), "score", "numeric"))
    return found


def _kind(table: pa.Table, name: str, kind: str) -> str:
    values = _values(table[name])
    if values.dtype == object:
        return "categorical"
    few = len(np.unique(values[~np.isnan(values)])) <= _CLASSES_AT_MOST
    return kind if few else "numeric"


def _label(
    table: pa.Table, schema: ModelSchema, label: str | None, learnt: Array, counted: Array, bins: int
) -> ColumnProfile | None:
    if label is None or label not in table.column_names:
        return None
    is_number = any(o.name == schema.prediction and o.datatype.startswith("FP") for o in schema.outputs)
    kind = _kind(table, label, "numeric" if is_number else "categorical")
    return _column(label, "label", kind, _values(table[label]), learnt, counted, bins)


def _column(name: str, role: Role, kind: str, values: Array, learnt: Array, counted: Array, bins: int) -> ColumnProfile:
    if kind == "categorical":
        return _categorical(name, role, values, learnt, counted)
    return _numeric(name, role, values, learnt, counted, bins)


def _numeric(name: str, role: Role, values: Array, learnt: Array, counted: Array, bins: int) -> NumericProfile:
    edges = cuts(values[learnt], bins)
    cut = _Bins(len(edges) + 1, edges, None)
    counts = np.bincount(cut.of(values[counted]), minlength=cut.size + 1)
    there = values[np.isfinite(values)]
    there = there if len(there) else np.zeros(1)
    return NumericProfile(
        name=name, role=role, edges=tuple(edges.tolist()), counts=tuple(counts[: cut.size].tolist()),
        missing=int(counts[cut.missing]), mean=short(there.mean()), sd=short(there.std()),
        minimum=float(there.min()), maximum=float(there.max()),
    )  # fmt: skip


def _categorical(name: str, role: Role, values: Array, learnt: Array, counted: Array) -> CategoricalProfile:
    classes = _classes(values[learnt])
    cut = _Bins(len(classes), None, classes)
    counts = np.bincount(cut.of(values[counted]), minlength=cut.size + 2)
    return CategoricalProfile(
        name=name, role=role, classes=tuple(classes.tolist()), counts=tuple(counts[: cut.size].tolist()),
        missing=int(counts[cut.missing]), unseen=int(counts[cut.missing + 1]),
    )  # fmt: skip


def _classes(values: Array) -> Array:
    """The distinct classes, the most frequent ones where there are too many: all others make one bin, of the unseen."""
    if values.dtype != object:
        found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    else:
        found, counts = _texts(values)
    if len(found) > _CLASSES_AT_MOST:
        found = np.sort(found[np.argsort(-counts, kind="stable")[:_CLASSES_AT_MOST]])
    return found


def _texts(values: Array) -> tuple[Array, Array]:
    """The classes of a column of texts and how often each is there. Of too many those that are there once are none:
    a sketch of names or of prose would be the rows themselves."""
    there = [_text(value) for value in values.tolist() if value is not None and value == value]
    found, counts = np.unique(
        np.array([text for text in there if len(text) <= _LONGEST_CLASS], object), return_counts=True
    )
    return (found, counts) if len(found) <= _CLASSES_AT_MOST else (found[counts > 1], counts[counts > 1])


def _bins_of(column: ColumnProfile) -> _Bins:
    if isinstance(column, NumericProfile):
        return _Bins(len(column.counts), np.array(column.edges), None)
    is_text = bool(column.classes) and isinstance(column.classes[0], str)
    return _Bins(len(column.counts), None, np.array(column.classes, object if is_text else np.float64))


def _rotation(
    columns: Sequence[ColumnProfile], values: Mapping[str, Array], learnt: Array, counted: Array, bins: int
) -> Rotation | None:
    columns = columns[:AT_MOST]
    cut = [_bins_of(column) for column in columns]
    placed = [each.of(values[column.name]) for each, column in zip(cut, columns, strict=True)]
    names, sizes = [column.name for column in columns], [each.size for each in cut]
    return rotation(names, np.array(placed).T, sizes, learnt, counted, bins)
