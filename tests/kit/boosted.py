"""Real XGBoost and LightGBM models, trained in a process of their own.

LightGBM expects OpenMP from the machine; the sandbox brings a copy, and so does whoever trains here.
"""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from services.kit.sandbox.process import openmp

ROWS = np.random.default_rng(7).normal(size=(300, 3)).astype(np.float32)
TWO = (ROWS.sum(axis=1) > 0).astype(np.int64)
THREE = np.digitize(ROWS[:, 0], [-0.5, 0.5])
NUMBER = ROWS[:, 0] * 2

_TRAIN = """
import json, sys
import numpy as np
rows, two, three, number = (np.load(f"{name}.npy") for name in ("rows", "two", "three", "number"))
truths = {"two": two, "three": three, "number": number}
import lightgbm as lgb, xgboost as xgb
told = {}
for name, (objective, truth, more) in json.loads(sys.argv[1]).items():
    library, _, form = name.partition(".")
    if library == "xgboost":
        booster = xgb.train({"objective": objective, **more}, xgb.DMatrix(rows, truths[truth]), 5)
        open(name, "wb").write(bytes(booster.save_raw(form.partition(" ")[0])))
        told[name] = booster.predict(xgb.DMatrix(rows)).tolist()
    else:
        booster = lgb.train({"objective": objective, "verbose": -1, **more}, lgb.Dataset(rows, truths[truth]), 5)
        open(name, "w").write(booster.model_to_string())
        told[name] = booster.predict(rows).tolist()
json.dump(told, open("told.json", "w"))
"""
_ASKED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "xgboost.json two": ("binary:logistic", "two", {}),
    "xgboost.ubj two": ("binary:logistic", "two", {}),
    "xgboost.ubj three": ("multi:softprob", "three", {"num_class": 3}),
    "xgboost.ubj three decided": ("multi:softmax", "three", {"num_class": 3}),
    "xgboost.ubj hinge": ("binary:hinge", "two", {}),
    "xgboost.ubj raw": ("binary:logitraw", "two", {}),
    "xgboost.json number": ("reg:squarederror", "number", {}),
    "lightgbm.txt two": ("binary", "two", {}),
    "lightgbm.txt three": ("multiclass", "three", {"num_class": 3}),
    "lightgbm.txt number": ("regression", "number", {}),
}


@cache
def boosted() -> dict[str, tuple[bytes, np.ndarray]]:
    """By name, each model's file and what its own library predicts for ROWS."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, values in {"rows": ROWS, "two": TWO, "three": THREE, "number": NUMBER}.items():
            np.save(folder / f"{what}.npy", values)
        if library := openmp():
            (folder / "libgomp.so.1").symlink_to(library)
        subprocess.run(
            [sys.executable, "-c", _TRAIN, json.dumps(_ASKED)], cwd=folder, check=True,
            env=os.environ | {"LD_LIBRARY_PATH": str(folder)},
        )  # fmt: skip
        told = json.loads((folder / "told.json").read_bytes())
        return {each: ((folder / each).read_bytes(), np.array(told[each])) for each in _ASKED}
