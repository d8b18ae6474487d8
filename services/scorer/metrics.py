"""One metrics page for a host of many processes: each publishes its samples, any worker shows them all."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import REGISTRY

from .files import tell

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_EVERY_S = 2.0
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def snapshot() -> list[dict[str, Any]]:
    """This process's metrics."""
    return [
        {
            "name": family.name + ("_total" if family.type == "counter" else ""),
            "type": family.type,
            "help": family.documentation,
            "samples": [[s.name, dict(s.labels), s.value] for s in family.samples if not s.name.endswith("_created")],
        }
        for family in REGISTRY.collect()
    ]


async def publish(folder: Path, process: str) -> None:
    """Write them for the others, until cancelled."""
    while True:
        tell(folder / "metrics" / f"{process}.json", orjson.dumps(snapshot()))
        await asyncio.sleep(_EVERY_S)


def page(folder: Path, process: str) -> bytes:
    """Everybody's metrics in Prometheus's text format, with a label for the process."""
    said = {path.stem: path for path in (folder / "metrics").glob("*.json") if path.stem != process}
    pages = {process: snapshot()} | {name: orjson.loads(path.read_bytes()) for name, path in said.items()}
    families: dict[str, dict[str, Any]] = {}
    for name, own in pages.items():
        for family in own:
            known = families.setdefault(family["name"], family | {"lines": []})
            known["lines"] += [_line(sample, name) for sample in family["samples"]]
    return "".join(map(_text, families.values())).encode()


def _text(family: dict[str, Any]) -> str:
    about = family["help"].translate(_ESCAPES)
    kind = family["type"] if family["type"] in ("counter", "gauge", "histogram", "summary") else "untyped"
    return f"# HELP {family['name']} {about}\n# TYPE {family['name']} {kind}\n" + "".join(family["lines"])


def _line(sample: list[Any], process: str) -> str:
    name, labels, value = sample
    said = ",".join(f'{k}="{str(v).translate(_ESCAPES)}"' for k, v in {**labels, "process": process}.items())
    return f"{name}{{{said}}} {'NaN' if value is None else value}\n"
