"""Models that are code, as people bring them: packages with requirements, and the libraries they were made with."""

import asyncio
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from river import linear_model, preprocessing

from services.kit.environments import Environments, completed, lock, requirements

COLUMNS = ["age", "income", "debt"]
FUNCTION = b"""
import numpy as np
from scales import SCALE

def predict(inputs):
    x = inputs["X"] * SCALE
    return {"label": (x.sum(axis=1) > 0).astype(np.int64), "sum": x.sum(axis=1)}
"""


def laid(folder: Path, files: dict[str, bytes], **manifest: Any) -> Path:
    """A folder with these files and a `fairlead.yaml`, where anything is said for it."""
    for name, data in files.items():
        (to := folder / name).parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(data)
    if manifest:
        (folder / "fairlead.yaml").write_text(yaml.safe_dump({"name": "credit", **manifest}))
    return folder


def function(folder: Path, code: bytes = FUNCTION, **more: Any) -> Path:
    """A Python function with a module beside it."""
    said = {"format": "python", "model": "model.py", "columns": [{"name": name} for name in COLUMNS]} | more
    return laid(folder, {"model.py": code, "scales.py": b"SCALE = 2.0\n"}, **said)


@cache
def river_model() -> bytes:
    """A pipeline that has learned to add up."""
    made = preprocessing.StandardScaler() | linear_model.LogisticRegression()
    for n in range(600):
        row = [((n * step) % 7) - 3.0 for step in (1, 2, 3)]
        made.learn_one(dict(zip(COLUMNS, row, strict=True)), sum(row) > 0)
    return pickle.dumps(made)


_SKLEARN = """
import sys, numpy as np, sklearn, skops.io
from sklearn.linear_model import LogisticRegression
x = np.random.default_rng(7).normal(size=(400, 3)).astype(np.float32)
model = LogisticRegression().fit(x, (x.sum(axis=1) > 0).astype(np.int64))
open(sys.argv[1], "wb").write(skops.io.dumps(model))
print(sklearn.__version__)
"""
_TORCH = """
import sys, numpy as np, torch, mlflow.pytorch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
torch.manual_seed(1)
network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
floats = np.dtype("float32")
signature = ModelSignature(Schema([TensorSpec(floats, (-1, 3))]), Schema([TensorSpec(floats, (-1, 1))]))
needed = [f"mlflow-skinny=={mlflow.__version__}", f"torch=={torch.__version__.partition('+')[0]}"]
mlflow.pytorch.save_model(
    network, sys.argv[1], signature=signature, serialization_format="pickle", pip_requirements=needed
)
print(network(torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 4.0]])).detach().numpy().ravel().tolist())
"""


def sklearn_of(version: str, file: Path, environments: Environments) -> str:
    """A classifier that scikit-learn of some version made; answers the version that it was really."""
    packages = _built(f"scikit-learn=={version}\nskops\n", environments)
    return _run(packages, _SKLEARN, file)


def torch_model(folder: Path, environments: Environments) -> list[float]:
    """A PyTorch network in MLflow's format; answers what it says of (1, 2, 3) and (-1, 0.5, 4)."""
    packages = _built("mlflow-skinny==3.17.2\ntorch==2.15.0\nnumpy\npandas\n", environments)
    return yaml.safe_load(_run(packages, _TORCH, folder))


def _built(wanted: str, environments: Environments) -> Path:
    async def build() -> Path:
        locked = await lock(completed(requirements(wanted.encode()), ()), timeout_s=120)
        return await environments.built(locked)

    return asyncio.run(build())


def _run(packages: Path, code: str, to: Path) -> str:
    """A script on these libraries alone."""
    told = [sys.executable, "-S", "-c", code, str(to)]
    environment = {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(to.parent)}
    said = subprocess.run(told, env=environment, capture_output=True, check=True, timeout=120, cwd=to.parent)
    return said.stdout.decode().strip().splitlines()[-1]
