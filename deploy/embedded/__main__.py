"""`python -m deploy.embedded up | down | status`: the platform on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import anyio
import psutil
from rich.console import Console
from rich.markup import escape

from . import preflight, show, supervisor
from .home import ROOT, Home
from .plan import Outside
from .problem import Problem
from .processes import MARK, born, end_leftovers, mark, marked
from .state import State, launcher_runs, read

_DOWN_WITHIN_S = 90.0
_STATE_WITHIN_S = 10.0
_NOTHING_RUNS = 3  # what `status` answers, as init scripts do

console = Console(highlight=False, soft_wrap=True)


def up(home: Home, outside: Outside) -> int:
    """Start the platform, or join a start that is under way; wait until it is ready."""
    preflight.check_home(home)
    if launcher_runs(home):
        return _join(home)
    with (home.logs / "launcher.log").open("ab") as log:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "deploy.embedded", "supervise"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=ROOT,
            env={
                **os.environ, "FAIRLEAD_HOME": str(home.path), "FAIRLEAD_PORT": str(home.port),
                MARK: mark(home, "launcher"),
            },
        )  # fmt: skip
    try:
        return _follow(home, launcher.pid, lambda: launcher.poll() is None)
    except KeyboardInterrupt:
        console.print("interrupted: ending what was started")
        launcher.send_signal(signal.SIGTERM)
        launcher.wait(_DOWN_WITHIN_S)
        return 130


def _join(home: Home) -> int:
    """Wait for the launcher that runs already."""
    state = _state_of_launcher(home)
    if os.environ.get("FAIRLEAD_PORT") and state.port != home.port:
        raise Problem(
            f"{home.path} runs at port {state.port}, not {home.port}",
            f"`make down` first, or give another FAIRLEAD_HOME for a second platform at {home.port}.",
        )
    birth = born(state.launcher)
    return _follow(home, state.launcher, lambda: birth is not None and born(state.launcher) == birth)


def _state_of_launcher(home: Home) -> State:
    """What the running launcher says; one that has just begun says nothing yet."""
    deadline = time.monotonic() + _STATE_WITHIN_S
    while time.monotonic() < deadline:
        state = read(home)
        if state is not None and born(state.launcher) is not None:
            return state
        time.sleep(0.1)
    raise Problem(f"a launcher of {home.path} runs and does not say how far it is", "`make down`, then `make up`.")


def _follow(home: Home, launcher: int, alive: Callable[[], bool]) -> int:
    """Say each step until the launcher is ready or has ended."""
    said = ""
    while True:
        running = alive()
        state = read(home)
        if state is not None and state.launcher == launcher:
            if state.phase == "ready":
                console.print(show.table(home, state, {}))
                show.links(home, state, console)
                return 0
            if state.step and state.step != said:
                said = state.step
                console.print(f"[dim]{said} …[/]")
        if not running:
            return _failed(home, launcher, state)
        time.sleep(0.1)


def _failed(home: Home, launcher: int, state: State | None) -> int:
    if (state is None or state.launcher != launcher) and launcher_runs(home):
        return _join(home)  # two began at once, and the other was first
    if state is not None and state.launcher == launcher and state.problem:
        raise Problem(*state.problem)
    if state is not None and state.launcher == launcher and state.phase == "stopped":
        raise Problem("the platform was stopped while it started", "`make up` starts it again.")
    log = home.logs / "launcher.log"
    raise Problem("the launcher ended without a word", f"Read {log}; `make up` again takes over what it left.")


def down(home: Home) -> int:
    """End everything of this home, whoever started it. Nothing running is fine."""
    state = read(home) if home.run.is_dir() else None
    if state is not None and launcher_runs(home):
        console.print("[dim]ending the services, then Kafka and PostgreSQL …[/]")
        _end_launcher(state.launcher)
        anyio.run(_end_orphans, home, state)  # none, whatever became of the launcher meanwhile
        console.print("stopped")
        return 0
    left = anyio.run(_end_orphans, home, state) if state is not None else end_leftovers(home)
    console.print("stopped what an earlier launcher had left" if left else f"nothing of {home.path} runs")
    return 0


def _end_launcher(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        launcher = psutil.Process(pid)
        launcher.terminate()
        try:
            launcher.wait(_DOWN_WITHIN_S)
        except psutil.TimeoutExpired:
            launcher.kill()
            launcher.wait(10)


async def _end_orphans(home: Home, state: State) -> int:
    """A killed launcher left its parts: end them as it would have."""
    found = len(list(marked(home)))
    if found:
        await supervisor.end_records(home, state)
    end_leftovers(home)
    home.endpoints.unlink(missing_ok=True)
    return found


def status(home: Home) -> int:
    state = read(home)
    runs = launcher_runs(home)
    if state is None or (not runs and not any(marked(home))):
        console.print(f"nothing runs in {home.path}: `make up` starts the platform")
        return _NOTHING_RUNS
    unready = show.unready(state)
    console.print(show.table(home, state, unready))
    for name, reason in unready.items():
        console.print(f"[red]{name} is not ready:[/] {escape(reason)}")
    if not runs:
        console.print(
            "\n[red]the launcher was killed: nothing is restarted now.[/] `make up` takes over, `make down` ends all"
        )
        return 1
    console.print(f"\n{state.phase}{': ' + state.step if state.step else ''}")
    show.links(home, state, console)
    if full := preflight.no_room(home):
        console.print(f"\n[red]{full}[/]: free some room, and what could not go on is started again")
        return 1
    return 0 if show.all_well(state) and not unready else 1


def main(arguments: list[str]) -> int:
    os.umask(0o077)  # of the services too: what they record is personal
    home = Home.of(os.environ)
    match arguments:
        case ["up"]:
            return up(home, Outside.of(os.environ))
        case ["supervise"]:
            return supervisor.main(home, Outside.of(os.environ))
        case ["down"]:
            return down(home)
        case ["status"]:
            return status(home)
        case _:
            console.print("usage: python -m deploy.embedded up | down | status")
            return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Problem as problem:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[red]error:[/] {problem.message}\n  {problem.todo}"
        )
        sys.exit(1)
