"""scikit-learn's checks of an input, left out for arrays that pass them unchanged.

Of a row through a small model scikit-learn spends three quarters of its time on the question what its input might be: a
table of whichever library, sparse, of other types. Its own settings (`assume_finite`) spare a tenth of that. What comes
here is a matrix of finite numbers, nearly always of the type that the model wants; then there is nothing to convert and
nothing to refuse, and `validate_data` gives back what it was given. All else goes to scikit-learn as before.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

_HARMLESS = frozenset({
    "accept_sparse", "accept_large_sparse", "ensure_all_finite", "ensure_2d", "estimator", "input_name",
})  # fmt: skip
"""Demands that a finite matrix meets, whatever they say."""
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
        if not reset and type(y) is str and type(X) is np.ndarray and _passes(X, estimator, params):
            return X
        return whole(estimator, X=X, y=y, reset=reset, **params)

    return validate_data


def _passes(X: np.ndarray[Any, Any], estimator: Any, params: dict[str, Any]) -> bool:  # noqa: N803
    """Whether scikit-learn would give back this very array."""
    return (
        X.ndim == 2
        and X.dtype.kind == "f"
        and X.shape[0] > 0
        and X.shape[1] == getattr(estimator, "n_features_in_", -1)
        and X.flags.c_contiguous
        and all(name in _HARMLESS or _is_met(name, value, X) for name, value in params.items())
        and bool(np.isfinite(X).all())
    )


def _is_met(name: str, value: Any, X: np.ndarray[Any, Any]) -> bool:  # noqa: N803
    match name:
        case "dtype":
            kinds = value if isinstance(value, list | tuple) else [value]
            return any(kind is None or kind == "numeric" or X.dtype == np.dtype(kind) for kind in kinds)
        case "order":
            return value in (None, "C")
        case "copy" | "force_writeable":
            return value is False
        case _:
            return False
