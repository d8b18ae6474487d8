"""Landlock: from here on this process and its threads reach only the named folders (userspace-api/landlock)."""

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from .libc import syscall
from .syscalls import LANDLOCK_ADD_RULE, LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << n for n in range(6))
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (1 << n for n in range(6, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

_READ = _READ_FILE | _READ_DIR
# No symbolic links, sockets, pipes or devices: whoever reads a sandbox's output folder must find plain files.
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1, 2
_VERSION_FLAG, _RULE_PATH_BENEATH = 1, 1


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def abi() -> int:
    """The version of Landlock that this kernel enforces; 0 where there is none."""
    try:
        return syscall(LANDLOCK_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(readable: Iterable[Path], writable: Iterable[Path], runnable: Iterable[Path] = ()) -> None:
    """Allow these files and folders only, with what lies below; no_new_privs must be set. Raises OSError."""
    version = abi()
    handled = _handled(version)
    # Older kernels refuse a structure that says what they do not know.
    net = _BIND_TCP | _CONNECT_TCP if version >= 4 else 0
    scoped = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if version >= 6 else 0
    ruleset = _Ruleset(handled, net, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(ruleset), size, 0)
    try:
        for path in readable:
            _allow(rules, path, _READ & handled)
        for path in writable:
            _allow(rules, path, _WRITE & handled)
        for path in runnable:
            _allow(rules, path, (_READ | _EXECUTE) & handled)
        syscall(LANDLOCK_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _handled(version: int) -> int:
    newest = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    return (1 << newest) - 1


def _allow(rules: int, path: Path, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # what is not there needs no rule
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _ON_FILES
        syscall(LANDLOCK_ADD_RULE, rules, _RULE_PATH_BENEATH, ctypes.byref(_PathBeneath(access, fd)), 0)
    finally:
        os.close(fd)
