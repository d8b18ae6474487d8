"""The reference that a monitor compares with: sketches of the training rows, never the rows themselves."""

from typing import Literal

from pydantic import Field

from .base import Number, Value, absent

Role = Literal["feature", "prediction", "score", "label"]


class NumericProfile(Value):
    """A column of numbers: bins between `edges`, the first and the last one open."""

    kind: Literal["numeric"] = "numeric"
    name: str
    role: Role
    edges: tuple[float, ...]
    """Ascending cuts between distinct values, the first and the last just outside the range of the learnt half; a
    value x is in bin `count of edges below x`."""
    counts: tuple[int, ...]
    """Counted rows in each bin: one more than there are edges."""
    missing: int
    mean: float
    sd: float
    minimum: float
    maximum: float


class CategoricalProfile(Value):
    """A column of classes: numbers or texts."""

    kind: Literal["categorical"] = "categorical"
    name: str
    role: Role
    classes: tuple[Number, ...] | tuple[str, ...]
    """Ascending. Anything else is unseen."""
    counts: tuple[int, ...]
    unseen: int = 0
    """Counted rows of a class that the learnt half does not have."""
    missing: int


ColumnProfile = NumericProfile | CategoricalProfile


class AxisProfile(Value):
    """One direction of the reference's cloud: how far rows lie from its middle along it."""

    loadings: tuple[float, ...]
    """Of the rotation's columns, in their order; of length 1."""
    edges: tuple[float, ...]
    """Cuts of the rotated score; of its size (absolute value) where the rotation is not `signed`."""
    counts: tuple[int, ...]


class ResidualProfile(Value):
    """One column given the others: the square of what they leave open of it, less that of its own normal score."""

    column: int
    """Its place among the rotation's columns."""
    weights: tuple[float, ...]
    """Of the rotation's columns: what is left open, of variance 1."""
    edges: tuple[float, ...]
    counts: tuple[int, ...]


class PairsProfile(Value):
    """How often two columns are far out together."""

    columns: int
    """So many of the rotation's columns, its first ones."""
    far: float
    """A normal score beyond it is far out."""
    counts: tuple[tuple[int, int, int], ...]
    """Of the first and the second column, the first and the third, …: rows on opposite sides, not both far out, on the
    same side."""


class Rotation(Value):
    """How the columns' normal scores hang together: principal axes, residuals and pairs."""

    columns: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]
    """Of each column, the normal score of each bin; the last two are of missing and of unseen values."""
    axes: tuple[AxisProfile, ...]
    signed: bool = False
    """Whether the axes' scores are cut with their signs: a location that moves along an axis shows then, too."""
    residuals: tuple[ResidualProfile, ...] | None = Field(default=None, exclude_if=absent)
    """Of columns that follow from the others; an older profile has none, and no pairs."""
    pairs: PairsProfile | None = Field(default=None, exclude_if=absent)


class SegmentProfile(Value):
    """The groups of one segment, and how the watched columns lie in each of them."""

    name: str
    """Of the column."""
    groups: tuple[str, ...]
    group_of: tuple[int, ...]
    """Of each bin of the column, then of missing and of unseen values, the place of its group; -1: in none."""
    counts: tuple[tuple[tuple[int, ...], ...], ...]
    """Of the counted rows: [groups, watched columns, coarse bins]."""


class Segmented(Value):
    """The reference by segment, in coarse bins."""

    coarse: tuple[tuple[int, ...], ...]
    """Of each watched column, of each bin, then of missing and of unseen values: the coarse bin."""
    segments: tuple[SegmentProfile, ...]


class Profile(Value):
    """What every watched column of a model looked like in its reference rows.

    Bins, scores and axes are learnt from one half of the rows, the counts are of the other half: ranks of rows in
    the very sample that made the bins would not be those of new rows.
    """

    format: Literal[1] = 1
    rows: int
    """Rows of the reference, both halves."""
    counted: int
    """Rows of the half that the counts are of."""
    columns: tuple[ColumnProfile, ...]
    """The watched columns: features in the model's order, then the prediction and its score."""
    rotation: Rotation | None = None
    label: ColumnProfile | None = None
    """The truth in the reference rows; it is not watched row by row."""
    segmented: Segmented | None = Field(default=None, exclude_if=absent)
    """By group of the columns that are segments; left out where there are none, so that a baseline keeps its digest."""
