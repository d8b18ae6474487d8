"""Models that are code, as people bring them: packages with requirements, and the libraries they were made with."""

import asyncio
import json
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pyarrow import csv
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

_TEXTS = """
import sys, numpy as np, pandas as pd, sklearn, mlflow.sklearn
from pathlib import Path
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
random = np.random.default_rng(3)
rows = pd.DataFrame({"job": random.choice(["baker", "nurse", "pilot"], 300), "zone": random.choice(["01", "02"], 300),
                     "age": random.integers(20, 60, 300).astype(float)})
truth = np.where((rows.job == "pilot") | ((rows.job == "nurse") & (rows.age > 40)), "yes", "no")
encoded = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["job", "zone"]), remainder="passthrough")
model = make_pipeline(encoded, LogisticRegression(max_iter=2000)).fit(rows, truth)
signature = ModelSignature(
    Schema([ColSpec("string", "job"), ColSpec("string", "zone"), ColSpec("double", "age")]), Schema([ColSpec("string")])
)
needed = [f"mlflow-skinny=={mlflow.__version__}", f"scikit-learn=={sklearn.__version__}"]
folder = Path(sys.argv[1])
mlflow.sklearn.save_model(
    model, folder, signature=signature, serialization_format="cloudpickle", pip_requirements=needed
)
rows.assign(truth=truth).to_csv(folder / "training.csv", index=False)
asked = pd.DataFrame({"job": ["pilot", "baker"], "zone": ["01", "02"], "age": [30.0, 30.0]})
print(list(map(str, model.predict(asked))))
"""

_PARAMS = """
import sys, numpy as np, pandas as pd, mlflow.pyfunc
from pathlib import Path
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
class Cut(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        total = model_input.sum(axis=1).to_numpy() * np.prod(params["factors"])
        made = np.where(total > params["threshold"], params["yes"], "no")
        # How many rows were asked together, to whoever asks for it.
        return np.array([f"{each} of {len(made)}" for each in made]) if params["count"] else made
params = ParamSchema([
    ParamSpec("threshold", "double", 0.0), ParamSpec("factors", "double", [1.0], (-1,)),
    ParamSpec("yes", "string", "yes"), ParamSpec("count", "boolean", False),
    ParamSpec("since", "datetime", "2026-01-01"),
])
columns = ["age", "income", "debt"]
signature = ModelSignature(Schema([ColSpec("double", name) for name in columns]), Schema([ColSpec("string")]), params)
folder = Path(sys.argv[1])
mlflow.pyfunc.save_model(
    folder, python_model=Cut(), signature=signature, pip_requirements=[f"mlflow-skinny=={mlflow.__version__}"]
)
rows = pd.DataFrame(np.random.default_rng(3).normal(size=(300, 3)), columns=columns)
rows.assign(truth=np.where(rows.sum(axis=1) > 0, "yes", "no")).to_csv(folder / "training.csv", index=False)
print("made")
"""
_CLIENT = """
import json, sys, pandas as pd, requests
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
url, endpoint, token, asked = json.loads(sys.argv[2])
post = requests.post
requests.post = lambda url, **more: post(
    f"{url}/{endpoint}", **more | {"headers": more["headers"] | {"Authorization": f"Bearer {token}"}}
)
client = ScoringServerClient("127.0.0.1", int(url.rpartition(":")[2]))
rows = pd.DataFrame([[0.5, 0.25, 0.0]], columns=["age", "income", "debt"])
made = [client.invoke(rows, params=params).get_predictions().iloc[:, 0].tolist() for params in asked]
print(json.dumps(made))
"""
_PARAMS_ON = "mlflow-skinny==3.17.2\npandas\n"


def sklearn_of(version: str, file: Path, environments: Environments) -> str:
    """A classifier that scikit-learn of some version made; answers the version that it was really."""
    packages = _built(f"scikit-learn=={version}\nskops\n", environments)
    return _run(packages, _SKLEARN, file)


def torch_model(folder: Path, environments: Environments) -> list[float]:
    """A PyTorch network in MLflow's format; answers what it says of (1, 2, 3) and (-1, 0.5, 4)."""
    packages = _built("mlflow-skinny==3.17.2\ntorch==2.15.0\nnumpy\npandas\n", environments)
    return yaml.safe_load(_run(packages, _TORCH, folder))


def mlflow_texts(folder: Path, environments: Environments) -> list[str]:
    """A scikit-learn pipeline in MLflow's format that takes the texts `job` and `zone` beside `age`, with its rows;
    answers what it says of a pilot in zone 01 and a baker in zone 02, both 30 years old."""
    locked, packages = _locked("mlflow-skinny==3.17.2\nscikit-learn\npandas\n", environments)
    said = _run(packages, _TEXTS, folder)
    rows = csv.read_csv(folder / "training.csv", convert_options=csv.ConvertOptions(column_types={"zone": pa.string()}))
    pq.write_table(rows, folder / "training.parquet")
    (folder / "requirements.txt").write_bytes(locked)
    manifest = {"name": "texts", "format": "mlflow", "model": "MLmodel", "training": "training.parquet",
                "label": "truth", "requirements": "requirements.txt"}  # fmt: skip
    (folder / "fairlead.yaml").write_text(yaml.safe_dump(manifest))
    return yaml.safe_load(said)


def mlflow_params(folder: Path, environments: Environments) -> Path:
    """A pyfunc that says `yes`, or another text, of rows whose sum is above a threshold: as its params say."""
    locked, packages = _locked(_PARAMS_ON, environments)
    _run(packages, _PARAMS, folder)
    pq.write_table(csv.read_csv(folder / "training.csv"), folder / "training.parquet")
    (folder / "requirements.txt").write_bytes(locked)
    manifest = {"name": "cut", "format": "mlflow", "model": "MLmodel", "training": "training.parquet",
                "label": "truth", "requirements": "requirements.txt"}  # fmt: skip
    (folder / "fairlead.yaml").write_text(yaml.safe_dump(manifest))
    return folder


def mlflow_client(
    url: str, endpoint: str, token: str, asked: list[dict[str, Any] | None], folder: Path, environments: Environments
) -> list[list[str]]:
    """What MLflow's own client is told of the row (0.5, 0.25, 0), once with each of these params. It knows no path
    below `/invocations` and no tokens: only these are put in."""
    _, packages = _locked(_PARAMS_ON + "scipy\n", environments)  # which it takes for there
    return json.loads(_run(packages, _CLIENT, folder, json.dumps([url, endpoint, token, asked])))


def _built(wanted: str, environments: Environments) -> Path:
    return _locked(wanted, environments)[1]


def _locked(wanted: str, environments: Environments) -> tuple[bytes, Path]:
    async def build() -> tuple[bytes, Path]:
        locked = await lock(completed(requirements(wanted.encode()), ()), timeout_s=120)
        return locked, await environments.built(locked)

    return asyncio.run(build())


def _run(packages: Path, code: str, to: Path, *more: str) -> str:
    """A script on these libraries alone."""
    told = [sys.executable, "-S", "-c", code, str(to), *more]
    environment = {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(to.parent)}
    said = subprocess.run(told, env=environment, capture_output=True, timeout=120, cwd=to.parent)
    assert not said.returncode, said.stderr.decode()[-2000:]
    return said.stdout.decode().strip().splitlines()[-1]
