"""The entry of the tests of table models: opens one in the sandbox, as every service does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from services.kit.models import open_table


def asked(argument: bytes) -> Callable[[bytes], bytes]:
    """What a model file says of itself and of rows; and which copies of OpenMP it runs on."""
    job = json.loads(argument)
    model = open_table(job["format"], Path(job["file"]).read_bytes())
    rows = np.array(job["rows"], np.float32)

    def answer(_: bytes) -> bytes:
        maps = Path("/proc/self/maps").read_text()
        said: dict[str, Any] = {
            "columns": model.columns,
            "classes": None if model.classes is None else model.classes.tolist(),
            "made_with": model.made_with,
            "predictions": model.predict(rows).tolist(),
            "probabilities": model.scored(rows)[1].tolist() if model.scores else None,
            "openmp": sorted({line.split()[-1] for line in maps.splitlines() if "libgomp" in line}),
        }
        return json.dumps(said).encode()

    return answer
