"""Both census packages from the rows of 2015, the same bytes every time: python -m examples.census.build OUTDIR."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from . import recipe, rows

HERE = Path(__file__).parent
PACKAGES = {
    "census-employment": ("onnx", "model.onnx"),
    "census-employment-sklearn": ("sklearn", "model.skops"),
}


def build(out: Path) -> list[Path]:
    """Train once, pack twice."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        rows.write_parquet(rows.year(2015), work / "rows.parquet")
        metrics = recipe.train(work / "rows.parquet", work)
        return [pack(work, out, name, metrics) for name in PACKAGES]


def pack(work: Path, out: Path, name: str, metrics: dict[str, float]) -> Path:
    """One package of what the recipe left in `work`."""
    manifest = manifest_of(name) | {"metrics": metrics}
    _, model = PACKAGES[name]
    members = {
        "fairlead.yaml": yaml.safe_dump(manifest, sort_keys=False).encode(),
        model: (work / model).read_bytes(),
        "recipe.py": (HERE / "recipe.py").read_bytes(),
        "training.parquet": (work / "training.parquet").read_bytes(),
    }
    path = out / f"{name}.zip"
    path.write_bytes(recipe.write_zip(members))
    return path


def manifest_of(name: str) -> dict[str, Any]:
    """`fairlead.yaml` of one of the packages."""
    format_, model = PACKAGES[name]
    manifest: dict[str, Any] = yaml.safe_load((HERE / "fairlead.yaml").read_text())
    return manifest | {"name": name, "format": format_, "model": model}


if __name__ == "__main__":
    for made in build(Path(sys.argv[1])):
        print(f"{made} ({made.stat().st_size:,} bytes)")
