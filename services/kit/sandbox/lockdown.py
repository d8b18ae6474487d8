"""The layers of the sandbox, and how a process puts them on: first the ones that threads inherit, then the filter."""

import os
import resource
import signal
import sys
from collections.abc import Iterable
from functools import cache
from math import ceil
from pathlib import Path

import services

from . import landlock, libc, seccomp
from .errors import SandboxUnavailable
from .once import Once
from .spec import Confined, ProgramSpec, Spec

_CAP_DAC_READ_SEARCH, _CAP_SETGID, _CAP_SETUID = 1 << 2, 1 << 6, 1 << 7
_THREADS = 512
_OPEN_FILES = 256
_MB = 1024 * 1024

# Facts about the machine that libraries ask for when they count cores and read clocks; nothing of anybody's.
_MACHINE = (
    "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu",
    "/sys/devices/system/node", "/sys/fs/cgroup/cpu.max", "/sys/kernel/mm/transparent_hugepage", "/dev/urandom",
    "/etc/localtime", "/usr/share/zoneinfo",
)  # fmt: skip
_OWN = tuple(f"/proc/self/{name}" for name in ("maps", "stat", "statm", "status"))
# Extension modules that are loaded late find the C library and its kin here.
_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
# Who maps a program's libraries before its first instruction.
LOADERS = (
    "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1",
)  # fmt: skip
_RESERVED_MB = 768

PROJECT = Path(services.__path__[0]).parent


@cache
def layers() -> dict[str, bool]:
    """Which layers this machine has; all of them are needed."""
    return {
        "landlock": landlock.abi() >= 1,
        "seccomp": seccomp.available(),
        "no_new_privs": _has_no_new_privs(),
        "rlimits": hasattr(resource, "prlimit"),
        "unprivileged": os.geteuid() != 0 or _may_drop(),
    }


def require() -> None:
    """Raise SandboxUnavailable unless every layer is there."""
    if missing := [name for name, there in layers().items() if not there]:
        raise SandboxUnavailable(f"no sandbox on this machine: it lacks {', '.join(missing)}")


def house(package: str) -> list[Path]:
    """The folders of the house's code, and of the entry's package."""
    return [PROJECT / name for name in ("services", "contracts", package)]


def confine(spec: Spec, package: str) -> None:
    """Become nobody and reach only the named folders. While there is one thread: later ones inherit it."""
    _become_nobody(spec)
    _pin(_OWN)
    readable = [
        *_interpreter(),
        *house(package),
        *map(Path, (*_MACHINE, *_OWN, *_SYSTEM_LIBRARIES, *spec.readable)),
        *([Path(spec.packages)] if spec.packages else []),
    ]
    landlock.restrict(readable, [*map(Path, spec.writable), Path(spec.tmp), Path("/dev/null")])


def confine_program(spec: ProgramSpec, folder: Path) -> None:
    """The same for what is to become a program: `folder` is its package's, the only other place to run anything of."""
    _become_nobody(spec, inherited=True)
    _pin(_OWN, inherited=True)
    landlock.restrict(
        map(Path, (*_MACHINE, *_OWN, *_SYSTEM_LIBRARIES, *spec.readable)),
        [*map(Path, spec.writable), Path(spec.tmp), Path("/dev/null")],
        [Path(spec.runtime) if spec.runtime else folder, *map(Path, LOADERS)],
    )


def seal_program(spec: ProgramSpec, program: int) -> int:
    """Bound what a program may use, filter its calls; answers what may be become (`libc.become`), once."""
    once = Once()
    launch = _OPEN_FILES + 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(launch + 1, hard), hard))
    os.dup2(program, launch, inheritable=False)
    # Address space says nothing of V8 or a JVM. V8 alone counts half a GB of room for code that it never touches.
    _limit(resource.RLIMIT_DATA, (spec.memory_mb + _RESERVED_MB) * _MB)
    _bound(spec)
    once.listen(seccomp.lock_program(os.getpid(), launch))
    return launch


def seal(spec: Spec) -> None:
    """Bound what may be used from here on, and filter the kernel's calls of every thread."""
    beyond = _address_space() + spec.memory_mb * _MB  # what the libraries took is theirs
    if spec.packages:
        # Libraries that are still to come map files of any size; what they and the model write to is bounded as ever.
        _limit(resource.RLIMIT_DATA, _written() + spec.memory_mb * _MB)
        beyond += spec.mapped_mb * _MB
    _limit(resource.RLIMIT_AS, beyond)
    _bound(spec)
    if spec.cpu_s is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, ceil(used.ru_utime + used.ru_stime) + spec.cpu_s)
    seccomp.lock(os.getpid(), counted=bool(spec.packages))


def _become_nobody(spec: Confined, *, inherited: bool = False) -> None:
    if spec.uid is not None:
        _drop(spec.uid, inherited=inherited)
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != spec.parent:
        os._exit(0)  # the parent went before it could be followed
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)


def _bound(spec: Confined) -> None:
    # Never 0: a worker whose output is a file would die of its first line.
    _limit(resource.RLIMIT_FSIZE, max(1, spec.file_mb) * _MB)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_MEMLOCK, 0)
    _limit(resource.RLIMIT_MSGQUEUE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    if spec.uid is not None:
        _limit(resource.RLIMIT_NPROC, _THREADS)  # of this id, which nobody else has (`uids.py`); it counts threads


def _has_no_new_privs() -> bool:
    try:
        return libc.prctl(libc.PR_GET_NO_NEW_PRIVS) >= 0
    except OSError:
        return False


def _may_drop() -> bool:
    needed = _CAP_SETUID | _CAP_SETGID
    return libc.capabilities() & needed == needed


def _drop(uid: int, *, inherited: bool) -> None:
    """Leave root, but go on reading through folders that are closed to others: Landlock says which are reached."""
    kept = libc.capabilities() & _CAP_DAC_READ_SEARCH
    libc.prctl(libc.PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc.keep_capabilities(kept, inherited=inherited)


def _interpreter() -> list[Path]:
    """The standard library and the environment's packages; not the project's own folder, whose home may lie in it."""
    return [Path(entry) for entry in sys.path if entry and not PROJECT.is_relative_to(entry)]


def _pin(paths: Iterable[str], *, inherited: bool = False) -> None:
    """Keep the kernel's entries of these files: Landlock knows files by them, and procfs makes new ones at will."""
    for path in paths:
        os.set_inheritable(os.open(path, os.O_PATH), inherited)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _written() -> int:
    """Bytes of private memory that may be written to: data and stacks."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))
