"""Runs a library's script over streams, in an environment that is made for it."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...peers.starting import environment, installed
from ..streams import Array

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """A script, what it needs, and how much of the streams it is given: some take seconds a window."""

    script: str
    wanted: tuple[str, ...]
    arguments: tuple[str, ...]
    calm_streams: int
    """Of 10,000 rows, to find its level."""
    seeds: int
    """At most so many streams of each kind."""
    before: int = 3_000
    after: int = 5_000


PEERS = {
    "evidently": Peer("with_evidently.py", ("evidently==0.7.23", "pandas<3"), (), 6, 2, 1_000, 3_000),
    "nannyml": Peer("with_nannyml.py", ("nannyml==0.13.1", "pandas<3", "statsmodels"), (), 10, 4),
    "alibi": Peer("with_alibi.py", ("alibi-detect==0.13.0",), (), 20, 10),
}


def statistics(peer: Peer, streams: Sequence[tuple[Array, Array]]) -> tuple[Array, dict[str, Array]]:
    """At which rows it says something, and by detector what it says of each stream [streams, ends]; of reference and
    rows."""
    folder = Path(tempfile.gettempdir()) / "fairlead-bench-peers"
    folder.mkdir(exist_ok=True)
    packages = installed(folder, list(peer.wanted))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        at = Path(name)
        np.savez(at / "in.npz", reference=[each for each, _ in streams], rows=[rows for _, rows in streams])
        command = [sys.executable, "-S", str(_HERE / peer.script), str(at / "in.npz"), str(at / "out.npz")]
        subprocess.run([*command, *peer.arguments], env=environment(packages, at, None), check=True)
        with np.load(at / "out.npz") as found:
            told = {each: found[each] for each in found.files}
    return told.pop("ends"), told
