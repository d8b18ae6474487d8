"""scikit-learn's checks of an input, left out for arrays that pass them unchanged.

Of a row through a small model scikit-learn spends three quarters of its time on the question what its input might be: a
table of whichever library, sparse, of other types. Its own settings (`assume_finite`) spare a tenth of that. What comes
here is a matrix of finite numbers, of the type that the model wants or of the other width of floats (trees want FP32);
then there is nothing to refuse, and `validate_data` gives back what it was given, in that width. All else goes to
scikit-learn as before.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .wire import Array

_HARMLESS = frozenset({
    "accept_sparse", "accept_large_sparse", "dtype", "ensure_all_finite", "ensure_2d", "estimator", "input_name",
})  # fmt: skip
"""Demands that a finite matrix of the type that is wanted meets, whatever they say."""
_NONE = "no_validation"


def spare() -> None:
    """Leave them out in this process, of all that scikit-learn has loaded by now; once is enough, twice does no harm.

    Before version 1.6 there is no such function, and all is checked.
    """
    from sklearn.utils import validation

    whole = getattr(validation, "validate_data", None)
    if whole is None or hasattr(whole, "__wrapped__"):
        return
    brief = _sparing(whole)
    for module in [module for name, module in sys.modules.items() if name.startswith("sklearn.")]:
        if getattr(module, "validate_data", None) is whole:
            setattr(module, "validate_data", brief)  # noqa: B010  modules have no such member for a type checker


def _sparing(whole: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(whole)
    def validate_data(
        estimator: Any, /, X: Any = _NONE, y: Any = _NONE, reset: bool = True, **params: Any  # noqa: N803
    ) -> Any:  # fmt: skip
        if not reset and type(y) is str and type(X) is np.ndarray:
            passed = _passed(X, estimator, params)
            if passed is not None:
                return passed
        return whole(estimator, X=X, y=y, reset=reset, **params)

    return validate_data


def _passed(X: Array, estimator: Any, params: dict[str, Any]) -> Array | None:  # noqa: N803
    """The array that scikit-learn would give back; None where its checks are needed to know."""
    kind = _kind(X.dtype, params.get("dtype"))
    if (
        kind is None
        or X.ndim != 2
        or X.shape[0] == 0
        or X.shape[1] != getattr(estimator, "n_features_in_", -1)
        or not X.flags.c_contiguous
        or not all(name in _HARMLESS or _is_met(name, value) for name, value in params.items())
    ):
        return None
    with np.errstate(over="ignore"):
        made = X.astype(kind, copy=False)
    return made if np.isfinite(made).all() else None


def _kind(has: "np.dtype[Any]", wanted: Any) -> "np.dtype[Any] | None":
    """The floats that an array becomes; None of what are no floats, or become none."""
    if has.kind != "f":
        return None
    kinds = wanted if isinstance(wanted, list | tuple) else [wanted]
    if any(each is None or (type(each) is str and each == "numeric") or np.dtype(each) == has for each in kinds):
        return has
    first = np.dtype(kinds[0])
    return first if first.kind == "f" else None


def _is_met(name: str, value: Any) -> bool:
    match name:
        case "order":
            return value in (None, "C")
        case "copy" | "force_writeable":
            return value is False
        case _:
            return False
