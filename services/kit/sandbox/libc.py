"""The C library through ctypes: raw system calls that answer or raise OSError."""

import ctypes
import os
from collections.abc import Mapping, Sequence
from typing import NoReturn

from .syscalls import EXECVEAT

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 1, 4, 8
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
_PR_CAP_AMBIENT, _RAISE = 47, 2

AT_EMPTY_PATH = 0x1000
_CAP_VERSION_3 = 0x20080522


def syscall(number: int, *arguments: object) -> int:
    """Make a system call. Raises OSError."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *wide))


def prctl(option: int, value: int = 0, second: int = 0) -> int:
    """Set or ask something of this process. Raises OSError."""
    return _checked(
        _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(second), ctypes.c_ulong(0), ctypes.c_ulong(0))
    )


def capabilities() -> int:
    """The permitted capabilities of this process, as a bit mask."""
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _checked(_libc.capget(header, data))
    return data[1] | data[4] << 32


def keep_capabilities(mask: int, *, inherited: bool = False) -> None:
    """Give up every capability but these; `inherited`: the program that this process becomes has them too.

    Raises OSError.
    """
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (ctypes.c_uint32 * 6)(low, low, low * inherited, high, high, high * inherited)
    _checked(_libc.capset(header, data))
    for place in range(64 if inherited else 0):
        if mask >> place & 1:
            prctl(_PR_CAP_AMBIENT, _RAISE, place)


def become(program: int, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Become the program that this descriptor is of (O_PATH). Raises OSError."""
    said = [os.fsencode(each) for each in arguments]
    pairs = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
    argv, envp = ((ctypes.c_char_p * (len(each) + 1))(*each, None) for each in (said, pairs))
    syscall(EXECVEAT, program, ctypes.c_char_p(b""), argv, envp, AT_EMPTY_PATH)
    raise AssertionError("unreachable")


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
