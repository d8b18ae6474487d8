"""`make up`, `make down` and `make status`, with everything killed that can be killed."""

import json
import signal
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import psutil
import pytest

from deploy.embedded import __main__ as command
from deploy.embedded.plan import Outside
from deploy.embedded.processes import born, marked
from deploy.embedded.secrets import PEOPLE
from deploy.embedded.standalone import free_home

from .launching import Installation, place, wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def installed() -> Iterator[Installation]:
    """A platform with one service, up."""
    with place() as folder:
        installation = Installation(free_home(folder / "home"), services="catalog")
        installation.up()
        yield installation
        assert installation.run("down").returncode == 0
        assert installation.processes() == []


@pytest.fixture
def folder() -> Iterator[Path]:
    with place() as made:
        yield made


def test_up_says_where_everything_is(installed: Installation) -> None:
    told = json.loads(installed.home.endpoints.read_text())
    assert told["kafka"] == f"127.0.0.1:{installed.home.kafka_port}"
    assert told["database"].startswith("postgresql://")
    assert told["scorer"] == f"http://127.0.0.1:{installed.home.port + 3}"


def test_up_makes_what_outsiders_need_and_nobody_else_can_read_it(installed: Installation) -> None:
    tokens = [installed.home.path / "tokens" / f"{who}.jwt" for who in PEOPLE]
    clients = [installed.home.client_properties(who) for who in ("operator", "application", "other-unit")]
    for secret in (*tokens, *clients, installed.home.endpoints, installed.home.keys / "governor.key"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600, secret


def test_nobody_else_of_the_machine_can_read_or_list_anything_of_the_home(installed: Installation) -> None:
    """PostgreSQL's own user, who is another one where root started it, may pass through folders; no more than that."""
    open_to_others = [
        path
        for path in (installed.home.path / "data").rglob("*")
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o066
    ]
    folders = [path for path in installed.home.path.iterdir() if path.is_dir()]
    assert [path for path in folders if stat.S_IMODE(path.stat().st_mode) & 0o066] == []
    assert open_to_others == []


def test_status_shows_what_runs(installed: Installation) -> None:
    shown = installed.run("status")
    assert shown.returncode == 0, shown.stdout
    for part in ("kafka", "postgres", "catalog"):
        assert part in shown.stdout
    assert installed.home.url("catalog") in shown.stdout


def test_status_tells_of_a_disk_that_is_full(
    installed: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=7 * 2**20))
    assert command.status(installed.home) == 1
    assert "is full: 7 MiB are free" in capsys.readouterr().out


def test_up_on_a_running_platform_changes_nothing(installed: Installation) -> None:
    before = installed.pids()
    installed.up()
    assert installed.pids() == before


def test_up_with_another_port_is_refused_while_it_runs(installed: Installation) -> None:
    done = Installation(installed.home, extra={"FAIRLEAD_PORT": "9"}).run("up")
    assert done.returncode == 1
    assert f"runs at port {installed.home.port}" in done.stdout


@pytest.mark.parametrize("part", ["catalog", "postgres", "kafka"])
def test_a_killed_part_is_started_again(installed: Installation, part: str) -> None:
    killed = installed.kill(part)
    wait_until(lambda: installed.ready_again(part, after=killed))
    wait_until(lambda: installed.run("status").returncode == 0)


async def test_what_was_committed_survives_a_killed_postgres(installed: Installation) -> None:
    url = json.loads(installed.home.endpoints.read_text())["database"]
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (a int)")
    await connection.execute("INSERT INTO kept VALUES (42)")
    killed = installed.kill("postgres")
    wait_until(lambda: installed.ready_again("postgres", after=killed))
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT a FROM kept") == 42
    await connection.execute("DROP TABLE kept")
    await connection.close()


def test_the_next_up_takes_over_from_a_killed_launcher(installed: Installation) -> None:
    before = installed.pids()
    installed.kill("launcher")
    assert installed.run("status").returncode == 1
    installed.up()
    assert installed.pids() == before
    killed = installed.kill("catalog")  # what was taken over is watched like the rest
    wait_until(lambda: installed.ready_again("catalog", after=killed))


def test_a_part_that_died_beside_its_launcher_is_started_by_the_next_up(installed: Installation) -> None:
    before = installed.pids()
    installed.kill("launcher")
    installed.kill("catalog")
    installed.up()
    after = installed.pids()
    assert after["kafka"] == before["kafka"]
    assert after["catalog"] != before["catalog"]


def test_a_second_home_runs_beside_the_first(installed: Installation, folder: Path) -> None:
    second = Installation(free_home(folder / "second"))
    try:
        second.up()
        assert set(second.pids()) == {"kafka", "postgres"}
        assert installed.run("status").returncode == 0
        assert not set(second.pids().values()) & set(installed.pids().values())
    finally:
        assert second.run("down").returncode == 0
    assert second.processes() == []
    assert installed.run("status").returncode == 0


def test_down_ends_what_a_killed_launcher_left(folder: Path) -> None:
    installation = Installation(free_home(folder / "home"))
    installation.up()
    left = installation.pids().values()
    installation.kill("launcher")
    assert installation.run("down").returncode == 0
    assert installation.processes() == []
    assert all(born(pid) is None for pid in left)
    assert installation.run("status").returncode == 3
    assert installation.run("down").returncode == 0  # nothing to do is fine


def test_a_terminated_launcher_takes_everything_down(folder: Path) -> None:
    installation = Installation(free_home(folder / "home"))
    installation.up()
    launcher = psutil.Process(installation.state()["launcher"])
    launcher.send_signal(signal.SIGTERM)
    wait_until(lambda: born(launcher.pid) is None)
    assert installation.processes() == []
    assert installation.state()["phase"] == "stopped"


@pytest.mark.parametrize(("offset", "part"), [(10, "kafka"), (12, "postgres"), (1, "catalog")])
def test_a_port_in_use_is_named_and_nothing_starts(folder: Path, offset: int, part: str) -> None:
    installation = Installation(free_home(folder / "home"), services="catalog")
    with socket.socket() as other:
        other.bind(("127.0.0.1", installation.home.port + offset))
        other.listen()
        done = installation.run("up")
    assert done.returncode == 1
    assert f"port {installation.home.port + offset} ({part}) is in use by process" in done.stdout
    assert "FAIRLEAD_PORT" in done.stdout
    assert installation.processes() == []


def test_a_killed_nursery_keeps_nothing_alive_after_down(folder: Path) -> None:
    installation = Installation(free_home(folder / "home"), services="catalog")
    installation.up()
    nursery = next(process for process in marked(installation.home) if "deploy.embedded.nursery" in process.cmdline())
    nursery.kill()
    killed = installation.kill("catalog")  # asked of the nursery, which is no more
    wait_until(lambda: installation.ready_again("catalog", after=killed))
    assert installation.run("down").returncode == 0
    assert installation.processes() == []


def test_down_ends_a_launcher_whose_state_cannot_be_read(folder: Path) -> None:
    installation = Installation(free_home(folder / "home"))
    installation.up()
    launcher = installation.state()["launcher"]
    (installation.home.run / "state.json").write_text('{"of a later version": 1}')
    assert installation.run("down").returncode == 0
    assert installation.processes() == []
    assert born(launcher) is None


def test_an_up_that_another_one_forestalled_joins_it(installed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False])
    monkeypatch.setattr(command, "launcher_runs", lambda _: next(answers, True))
    assert command.up(installed.home, Outside()) == 0


def test_a_start_killed_while_it_lays_out_data_leaves_nothing_behind(folder: Path) -> None:
    installation = Installation(free_home(folder / "home"))
    data = installation.home.data
    with ThreadPoolExecutor() as pool:
        start = pool.submit(installation.run, "up")
        wait_until(lambda: any(data.glob("postgres-part-*")))
        launcher = next(process for process in marked(installation.home) if "supervise" in process.cmdline())
        launcher.kill()
        assert start.result().returncode == 1
    assert installation.run("down").returncode == 0
    assert installation.processes() == []
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if "initdb" in command and str(data) in command]
    try:
        installation.up()
        assert sorted(path.name for path in data.iterdir()) == ["kafka", "postgres"]
    finally:
        assert installation.run("down").returncode == 0


def test_a_home_may_have_any_name_that_can_be_read(folder: Path) -> None:
    home = folder / "Jürgen's “home” 100%41 \\ 家" / "fairlead"
    installation = Installation(free_home(home), services="catalog")
    try:
        installation.up()
        assert [path.name for path in folder.iterdir()] == [home.parent.name]  # objects lie in it, too
        assert (home / "data" / "kafka" / "meta.properties").exists()
    finally:
        assert installation.run("down").returncode == 0
