"""`python -m bench`: our figures beside the bare limit's in one run, as ratios."""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from . import away, batch, cold, decisions, neighbour, rest, streaming, watching
from .bounds import broken
from .drift import beside
from .drift import measuring as drift
from .model import census
from .peers import measuring
from .showing import show
from .stage import stage


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        default=["rest", "stream", "batch", "peers", "cold"],
        help="rest, stream, batch, peers, cold, away, neighbour, decisions, drift, watch",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one run over REST")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rows", type=int, default=400_000, help="of one streaming run")
    parser.add_argument("--batch-rows", type=int, default=1_000_000, help="of one batch")
    parser.add_argument("--away-seconds", type=float, default=60.0, help="for how long Kafka is away")
    parser.add_argument("--decisions", type=int, default=1_000_000, help="recorded ones to look up among")
    parser.add_argument("--seeds", type=int, default=20, help="streams of each kind of drift")
    parser.add_argument(
        "--peers",
        nargs="+",
        default=[],
        help=f"of drift: ours, alone, agreement, {', '.join(beside.known())}; else all",
    )
    parser.add_argument("--stationary-rows", type=int, default=20_000_000, help="rows without drift")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-", ignore_cleanup_errors=True) as name:
        found = _measure(given, Path(name))
    found["load_average"] = os.getloadavg()[0]
    show(found)
    text = json.dumps(found, indent=2)
    if given.json:
        given.json.write_text(text + "\n")
    print(text)
    if parts := broken(found):
        raise SystemExit(f"beyond its bound: {', '.join(parts)}")


def _measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "decisions" in given.what:
        found["decisions"] = decisions.measure(folder, given.decisions)
    if "drift" in given.what:
        found["drift"] = drift.measure(given.seeds, given.stationary_rows, given.peers)
    if "watch" in given.what:
        found["watch"] = watching.measure(folder / "watch")
    if not set(given.what) - {"decisions", "drift", "watch"}:
        return found
    model = census(folder / "packages")
    if "cold" in given.what:
        both = model, census(folder / "packages", "sklearn")
        with stage(folder / "small", FAIRLEAD_SCORER_MEMORY_MB=str(cold.BUDGET_MB)) as platform:
            found["cold"] = cold.measure(platform, both, folder, 2 * given.rounds)
    if not set(given.what) - {"cold", "decisions", "drift", "watch"}:
        return found
    with stage(folder / "home") as platform:
        if "rest" in given.what:
            counts = tuple(given.connections)
            found["rest"] = rest.measure(platform, model, folder, counts, given.rounds, given.seconds, 1)
            found["rest"] += rest.measure(platform, model, folder, (16,), given.rounds, given.seconds, 100)
        if "stream" in given.what:
            found["stream"] = streaming.measure(platform, model, folder, given.rounds, given.rows)
        if "batch" in given.what:
            found["batch"] = batch.measure(platform, model, folder, given.rounds, given.batch_rows)
        if "away" in given.what:
            found["away"] = away.measure(platform, model, given.away_seconds)
        if "neighbour" in given.what:
            found["neighbour"] = neighbour.measure(platform, model, folder, given.rounds, given.seconds)
        if "peers" in given.what:
            both = model, census(folder / "packages", "sklearn")
            counts = tuple(given.connections)
            found["peers"] = measuring.measure(platform, both, folder, counts, given.rounds, given.seconds)
    return found


if __name__ == "__main__":
    main()
