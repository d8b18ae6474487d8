"""Hostile programs fail in the sandbox, each with its proof that outside it succeeds."""

import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit.sandbox import SandboxError, layers, lockdown, process, run_sandboxed

ENTRY = "tests.kit.sandboxed:python"
HELPERS = """
import ctypes, errno, os, platform
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
X86 = platform.machine() == "x86_64"
def raw(x86, arm, *arguments):
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    answer = _libc.syscall(ctypes.c_long(x86 if X86 else arm), *wide)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer
"""

# What a hostile model tries. `secret` is a file that it was not given, `victim` a process, `port` and `unix` servers,
# `outside` a folder that it may not write.
HOSTILE = {
    "read a file": "open(secret).read()",
    "list a folder": "os.listdir(outside)",
    "read through a symbolic link": "open(link).read()",
    "read its parent's environment": "open(f'/proc/{os.getppid()}/environ').read()",
    "read its parent's memory": "open(f'/proc/{os.getppid()}/maps').read()",
    "write outside": "open(outside + '/mark', 'w').write('x')",
    "empty a file by opening it": "os.open(secret, os.O_RDONLY | os.O_TRUNC)",
    "cut a file": "os.truncate(secret, 0)",
    "make a folder outside": "os.mkdir(outside + '/made')",
    "delete a file": "os.unlink(secret)",
    "rename a file": "os.rename(secret, secret + '2')",
    "change a file's mode": "os.chmod(secret, 0o777)",
    "change a file's owner": "os.chown(secret, os.getuid(), os.getgid())",
    "change a file's times": "os.utime(secret, (0, 0))",
    "mark a file": "os.setxattr(secret, 'user.mark', b'x')",
    "leave a symbolic link": "os.symlink(secret, here + '/link')",
    "leave a hard link": "os.link(secret, here + '/hard')",
    "leave a pipe": "os.mkfifo(here + '/pipe')",
    "connect by TCP": "import socket; socket.create_connection(('127.0.0.1', port), 2)",
    "send by UDP": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', port))",
    "listen": "import socket; socket.create_server(('127.0.0.1', 0))",
    "connect by a Unix socket": "import socket; socket.socket(socket.AF_UNIX).connect(unix)",
    "make a pair of sockets": "import socket; socket.socketpair()",
    "start a program": "import subprocess; subprocess.run(['/bin/true'], check=True)",
    "start a program by posix_spawn": "os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)",
    "fork": "os.fork() or os._exit(0)",
    "fork by raw clone": "raw(56, 220, signal.SIGCHLD, 0, 0, 0, 0) or os._exit(0)",
    "fork by clone3": "raw(435, 435, ctypes.byref((ctypes.c_uint64 * 8)()), 64) or os._exit(0)",
    "kill another process": "os.kill(victim, signal.SIGTERM)",
    "kill by tgkill": "raw(234, 131, victim, victim, signal.SIGTERM)",
    "kill by pidfd": "raw(424, 424, raw(434, 434, victim, 0), signal.SIGTERM, None, 0)",
    "have the kernel kill": "import fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getpid())",
    "trace another process": "raw(101, 117, 0x4206, victim, 0, 0)",
    "read another's memory": "raw(310, 270, victim, None, 0, None, 0, 0)",
    "raise its own limits": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(4)[1]))",
    "outlive its parent": "raw(157, 167, 1, 0, 0, 0, 0)",
    "hide memory in a file": "os.memfd_create('x')",
    "share memory": "raw(29, 194, 0, 4096, 0o1600)",
    "make a key": "raw(250, 219, 0, -3, 1)",
    "open by handle": "open_by_handle()",
    "signal its process group": "raw(62, 129, 0, 0)",
}  # fmt: skip
# The kernel or the machine refuses these to everybody here and there: no proof outside.
UNPROVEN = {"mark a file", "leave a hard link", "change a file's owner", "open by handle", "share memory", "make a key"}

OPEN_BY_HANDLE = """
def open_by_handle():
    handle, mount = (ctypes.c_uint32 * 34)(128), ctypes.c_int()
    try:
        raw(303, 264, -100, ctypes.c_char_p(secret.encode()), handle, ctypes.byref(mount), 0)
    except PermissionError:
        pass
    directory = os.open(here, os.O_RDONLY)
    return raw(304, 265, directory, handle, 0)
"""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[dict[str, str | int]]:
    """A secret, a victim, a server: what a hostile program would like to touch."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text("the issuer's key")
    (home / "link").symlink_to(home / "secret")
    with (
        subprocess.Popen(["sleep", "60"]) as victim,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(home / "unix"))
        unix.listen()
        yield {
            "secret": str(home / "secret"), "link": str(home / "link"), "outside": str(home), "here": str(tmp_path),
            "victim": victim.pid, "port": server.getsockname()[1], "unix": str(home / "unix"),
        }  # fmt: skip
        victim.kill()


def program(attack: str, scene: dict[str, str | int]) -> str:
    """The source of a program that attacks once and says so."""
    names = "".join(f"{name} = {value!r}\n" for name, value in scene.items())
    statements = textwrap.indent(attack.replace("; ", "\n"), "    ")
    return f"import signal\n{HELPERS}{names}{OPEN_BY_HANDLE}\ndef main(_):\n{statements}\n    return b'done'\n"


# Modules that the interpreter or the house imports while a worker starts, and files that `site` would run.
EARLY = {
    "dataclasses.py", "struct.py", "json/__init__.py", "enum.py", "signal.py", "ctypes/__init__.py", "resource.py",
    "sysconfig.py", "services/__init__.py", "contracts/__init__.py", "sitecustomize.py", "usercustomize.py",
    "early.pth",
}  # fmt: skip
SPY = """
import os
with open({mark!r}, "a") as mark: mark.write(open("/etc/shadow").read())
"""


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    """What a wheel could bring: each of its files leaves a mark where it is run without walls."""
    packages, mark = tmp_path / "site", str(tmp_path / "mark")
    for name in EARLY:
        (to := packages / name).parent.mkdir(parents=True, exist_ok=True)
        spy = SPY.format(mark=mark)
        to.write_text(f"import sys; exec({spy!r})" if name.endswith(".pth") else spy)
    (packages / "theirs.py").write_text("import dataclasses\n" + SPY.format(mark=mark))
    return packages


async def test_no_library_of_a_model_runs_before_the_walls_stand(libraries: Path, tmp_path: Path) -> None:
    source = b"""
import dataclasses, json, resource, struct
def main(_):
    return " ".join(module.__file__ for module in (dataclasses, json, resource, struct)).encode()
"""
    said = await run_sandboxed(ENTRY, source, packages=libraries)
    assert not (tmp_path / "mark").exists()
    assert str(libraries).encode() not in said


async def test_a_library_that_is_asked_for_runs_behind_the_walls(libraries: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="Permission denied"):
        await run_sandboxed(ENTRY, b"import theirs", packages=libraries)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", sorted(EARLY))
def test_the_same_library_runs_where_nothing_stands_before_it(name: str, libraries: Path, tmp_path: Path) -> None:
    for other in EARLY - {name}:
        (libraries / other).unlink()
    code = f"import site; site.addsitedir({str(libraries)!r}); site.ENABLE_USER_SITE = True; site.execusercustomize()"
    code += "; import dataclasses, json, signal, ctypes, resource, services, contracts"
    environment = {"PYTHONPATH": os.pathsep.join([str(libraries), str(lockdown.PROJECT)])}
    subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=False, timeout=30, capture_output=True)
    assert (tmp_path / "mark").exists()


async def test_a_module_from_elsewhere_before_the_walls_ends_the_worker(
    libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (early := libraries.parent / "early").mkdir()
    (early / "signal.py").write_text("from _signal import *")
    monkeypatch.setattr(process, "PROJECT", f"{early}{os.pathsep}{lockdown.PROJECT}")
    with pytest.raises(SandboxError, match=r"signal was imported from .* while the walls were open"):
        await run_sandboxed(ENTRY, b"", packages=libraries)


def test_this_machine_has_every_layer() -> None:
    assert layers() == dict.fromkeys(("landlock", "seccomp", "no_new_privs", "rlimits", "unprivileged"), True)


@pytest.mark.parametrize("attack", HOSTILE)
async def test_a_hostile_program_fails(attack: str, scene: dict[str, str | int]) -> None:
    out, secret = Path(str(scene["here"])) / "out", Path(str(scene["secret"]))
    out.mkdir()
    scene["here"] = str(out)
    source = program(HOSTILE[attack], scene).encode()
    with pytest.raises(SandboxError) as refused:
        await run_sandboxed(ENTRY, source, writable=[out])
    assert names_a_refusal(str(refused.value)), refused.value
    assert secret.read_text() == "the issuer's key"
    assert list(out.iterdir()) == []
    os.kill(int(scene["victim"]), 0)


@pytest.mark.parametrize("attack", sorted(HOSTILE.keys() - UNPROVEN))
def test_the_same_program_succeeds_outside(attack: str, scene: dict[str, str | int]) -> None:
    source = program(HOSTILE[attack], scene) + "import os\nos.write(1, main(b''))\nos._exit(0)\n"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=30, check=False)
    assert done.stdout.startswith(b"done"), done.stderr.decode()


async def test_threads_are_as_confined_as_the_main_one(scene: dict[str, str | int]) -> None:
    source = program(
        """
        import concurrent.futures
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return pool.submit(lambda: open(secret).read()).result().encode()
        """.strip().replace("\n        ", "\n"),
        scene,
    )  # fmt: skip
    with pytest.raises(SandboxError, match="Permission denied"):
        await run_sandboxed(ENTRY, source.encode())


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the x32 numbering exists on x86_64 only")
async def test_the_x32_numbering_is_no_way_around(scene: dict[str, str | int]) -> None:
    with pytest.raises(SandboxError, match=f"signal {int(signal.SIGSYS)}"):
        await run_sandboxed(ENTRY, program("raw(0x40000000 + 57, 0)", scene).encode())


async def test_the_worker_reads_what_it_was_given_and_writes_where_it_may(tmp_path: Path) -> None:
    given, out = tmp_path / "given", tmp_path / "out"
    given.mkdir(mode=0o700)
    out.mkdir(mode=0o700)
    (given / "model").write_bytes(b"\x00weights")
    source = f"""
import tempfile
def main(_):
    data = open({str(given / "model")!r}, "rb").read()
    with tempfile.TemporaryFile() as scratch:
        scratch.write(data)
    open({str(out / "made")!r}, "wb").write(data)
    return data
"""
    answer = await run_sandboxed(ENTRY, source.encode(), readable=[given], writable=[out])
    assert answer == b"\x00weights" == (out / "made").read_bytes()


async def test_a_readable_folder_is_not_writable(tmp_path: Path) -> None:
    source = f"def main(_):\n    open({str(tmp_path / 'mark')!r}, 'w')\n    return b''"
    with pytest.raises(SandboxError, match="Permission denied"):
        await run_sandboxed(ENTRY, source.encode(), readable=[tmp_path])


async def test_etc_shadow_stays_closed() -> None:
    with pytest.raises(SandboxError, match=os.strerror(errno.EACCES)):
        await run_sandboxed(ENTRY, b"def main(_):\n    return open('/etc/shadow', 'rb').read()")


async def test_arithmetic_libraries_work_inside() -> None:
    source = b"""
import numpy as np
from concurrent.futures import ThreadPoolExecutor
def main(_):
    with ThreadPoolExecutor(4) as pool:
        totals = list(pool.map(lambda n: float((np.ones((64, 64)) @ np.ones((64, 64))).sum()), range(8)))
    return repr(sum(totals)).encode()
"""
    assert await run_sandboxed(ENTRY, source) == b"2097152.0"


def names_a_refusal(message: str) -> bool:
    """Whether a message says that the kernel refused something."""
    refusals = (
        "PermissionError",
        "not allowed to raise",
        "Operation not permitted",
        "Permission denied",
        "Function not implemented",
    )
    return any(words in message for words in refusals)
