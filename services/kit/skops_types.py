"""Which types a skops file may ask for, wherever one is opened: at registration, for scoring, for a comparison."""

from collections.abc import Iterable

_TRUSTED = frozenset({
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
})  # fmt: skip
"""Compiled parts of scikit-learn's trees, which skops leaves to the reader to trust. They run no code of the file,
but check little of its arrays; so scikit-learn models are built in the sandbox only."""


def strangers(asked: Iterable[str]) -> list[str]:
    """Of the types that skops leaves to the reader, those that are built nowhere here, in order."""
    return sorted({*asked} - _TRUSTED)
