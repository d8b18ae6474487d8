"""A live endpoint for clients that are not ours, and an environment of its own for each of them."""

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pytest

from deploy.embedded.home import ROOT
from examples.census import rows
from examples.demo.cast import Cast
from examples.demo.story import Story
from fairlead import Fairlead

_HERE = Path(__file__).parent
_INSTALLING_S = 300
_ASKING_S = 90


@dataclass(frozen=True)
class Target:
    """A scorer's endpoint, rows for it, and what our own client is answered for them."""

    url: str
    endpoint: str
    token_file: Path
    rows: list[list[float]]
    labels: list[int]


@pytest.fixture(scope="session")
def target(house: Path) -> Target:
    """The census model behind a fresh endpoint of the tests' platform."""
    cast = Cast.of(house)
    cast.endpoint = f"foreign-{uuid4().hex[:8]}"
    asyncio.run(_deployed(cast))
    people = _people(20)
    with Fairlead(home=house, acting_as="application") as fl:
        labels = fl.score(cast.endpoint, people).predictions
    assert set(labels) == {0, 1}, "rows that are all decided alike would not tell a wrong order"
    return Target(cast.places["scorer"], cast.endpoint, house / "tokens" / "application.jwt", people, labels)


def _people(count: int) -> list[list[float]]:
    (tensor,) = next(rows.requests(rows.year(2016), count)).body["inputs"]
    return np.reshape(tensor["data"], tensor["shape"]).tolist()


async def _deployed(cast: Cast) -> None:
    story = Story(cast)
    try:
        await story.register()
        await story.deploy()
    finally:
        await cast.close()


def environment(name: str) -> Path:
    """The Python of an environment that holds what `<name>.lock` names; made once for each content of the lock."""
    lock = _HERE / f"{name}.lock"
    folder = ROOT / ".cache" / "foreign" / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    python, whole = folder / "bin" / "python", folder / "whole"
    if not whole.exists():
        shutil.rmtree(folder, ignore_errors=True)
        uv = Path(sys.executable).parent / "uv"
        _quietly([uv, "venv", "-q", "--python", sys.executable, folder], {})
        _quietly([uv, "pip", "sync", "-q", "--require-hashes", lock], {"VIRTUAL_ENV": str(folder)})
        whole.touch()
    return python


def _quietly(command: Sequence[str | Path], extra: dict[str, str]) -> None:
    done = subprocess.run(
        command, env=os.environ | extra, capture_output=True, text=True, timeout=_INSTALLING_S, check=False
    )
    assert done.returncode == 0, done.stderr


Told = dict[str, Any]


@pytest.fixture(scope="session")
def ask(target: Target) -> Callable[[str], Told]:
    """`ask("triton")`: run `triton_client.py` in its environment against the target; what it prints."""

    def run(name: str) -> Told:
        told = orjson.dumps({"url": target.url, "endpoint": target.endpoint, "rows": target.rows})
        bearer = {"TOKEN": target.token_file.read_text().strip()}
        bare = {kept: os.environ[kept] for kept in ("PATH", "HOME") if kept in os.environ}
        done = subprocess.run(
            [environment(name), _HERE / f"{name}_client.py"], input=told, env=bare | bearer, cwd=_HERE,
            capture_output=True, timeout=_ASKING_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        return orjson.loads(done.stdout.splitlines()[-1])

    return run
