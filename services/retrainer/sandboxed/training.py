"""Runs a package's recipe."""

import json
import math
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any


def recipe(argument: bytes) -> Callable[[bytes], bytes]:
    """The sandbox's entry: the recipe's `train(rows, out)`; answers the metrics that it claims."""
    job = json.loads(argument)
    # Not "__main__": what a recipe does as a script is not what it does as a recipe.
    train = runpy.run_path(job["recipe"], run_name="recipe")["train"]
    return lambda _: json.dumps(_claims(train(Path(job["rows"]), Path(job["out"])))).encode()


def _claims(metrics: Any) -> dict[str, float]:
    given = metrics if isinstance(metrics, dict) else {}
    return {str(name)[:100]: float(value) for name, value in given.items() if math.isfinite(float(value))}
