"""seccomp: a filter in classic BPF that lets through the kernel calls that computing needs, and refuses the rest."""

import ctypes
import errno
import struct

from . import syscalls
from .libc import AT_EMPTY_PATH, syscall

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL, _REFUSE, _ASK = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
_SET_MODE_FILTER, _GET_ACTION_AVAIL, _TSYNC, _NEW_LISTENER = 1, 2, 1, 8
_X32 = 0x40000000

Code = list[tuple[int, int, int, int]]
"""Instructions: operation, how many to skip when true and when false, operand."""

_CLONE_FILES, _CLONE_THREAD, _CLONE_NEW = 0x400, 0x10000, 0x7E020080
_CLOSE_RANGE_UNSHARE = 2
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
_MAP_SHARED_ANONYMOUS, _MAP_GROWSDOWN = 0x21, 0x100
# Duplicate, flags and locks. Not F_SETOWN and F_SETSIG: they make the kernel send signals to others.
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FION/FIOCLEX
_PRCTL = (3, 15, 16, 23, 0x53564D41)  # GET_DUMPABLE, SET_NAME, GET_NAME, CAPBSET_READ, SET_VMA


def available() -> bool:
    """Whether the kernel filters calls and can refuse one with an error."""
    if not syscalls.KNOWN:
        return False
    try:
        syscall(syscalls.SECCOMP, _GET_ACTION_AVAIL, 0, ctypes.byref(ctypes.c_uint32(_REFUSE)))
    except OSError:
        return False
    return True


def program(pid: int, launch: int | None = None, *, counted: bool = False) -> Code:
    """The filter of the process with this id; `launch`: the descriptor of the program that it may become; `counted`:
    memory that RLIMIT_DATA does not count is refused."""
    code: Code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, syscalls.ARCH), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    if syscalls.MACHINE == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]  # the x32 numbering would pass by every rule
    # Before `mmap` is allowed.
    code += _judged({**(_of_programs(launch) if launch is not None else {}), **(_counted() if counted else {})})
    for number in syscalls.allowed():
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    return [*code, *_judged(_rules(pid)), _refuse(errno.EPERM)]


def lock(pid: int, *, counted: bool) -> None:
    """Filter every thread of this process from now on; no_new_privs must be set. Raises OSError."""
    if _install(program(pid, counted=counted), _TSYNC):
        raise OSError(errno.EBUSY, "a thread could not be brought under the filter")


def lock_program(pid: int, launch: int) -> int:
    """Filter this thread and what it becomes; answers who hears of an execution (`Once`). Raises OSError."""
    return _install(program(pid, launch, counted=True), _NEW_LISTENER)


def _install(code: Code, flags: int) -> int:
    packed = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
    sock_fprog = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(packed)))
    return syscall(syscalls.SECCOMP, _SET_MODE_FILTER, flags, ctypes.byref(sock_fprog))


def _judged(rules: dict[str, Code]) -> Code:
    code: Code = []
    for name, rule in rules.items():
        if (number := syscalls.ruled(name)) is not None:
            code += [(_EQUAL, 0, len(rule), number), *rule]
    return code


def _of_programs(launch: int) -> dict[str, Code]:
    """What is judged of programs alone."""
    # Beside the descriptor there may be a path, which counts where it is absolute: so the kernel asks, too.
    return {"execveat": [*_holds(0, launch), *_holds(4, AT_EMPTY_PATH), (_RETURN, 0, 0, _ASK)]}


def _counted() -> dict[str, Code]:
    """For whoever may use much more address space than memory: what RLIMIT_DATA does not count is memory that is
    shared with nobody, and stacks that grow."""
    return {
        "mmap": [*_load(3), (_AND, 0, 0, _MAP_SHARED_ANONYMOUS), (_EQUAL, 0, 1, _MAP_SHARED_ANONYMOUS),
                 _refuse(errno.EPERM), *_unless(3, _MAP_GROWSDOWN, _MAP_GROWSDOWN)],
    }  # fmt: skip


def _holds(argument: int, value: int) -> Code:
    """Refuse unless the argument is the value; else go on."""
    return [*_load(argument), (_EQUAL, 1, 0, value), _refuse(errno.EPERM)]


def _rules(pid: int) -> dict[str, Code]:
    # Landlock before ABI 3 does not judge O_TRUNC on a file that is opened for reading.
    no_cut = _O_TRUNC | _O_ACCMODE
    return {
        "open": _unless(1, no_cut, _O_TRUNC),
        "openat": _unless(2, no_cut, _O_TRUNC),
        "openat2": [_refuse(errno.ENOSYS)],  # its flags lie behind a pointer; callers fall back to openat
        # Threads share their descriptors: what one of them holds is what all hold, and one look sees it (`disk.py`).
        "clone": _only(0, (_CLONE_THREAD | _CLONE_FILES,), mask=_CLONE_THREAD | _CLONE_FILES | _CLONE_NEW),
        "close_range": _unless(2, _CLOSE_RANGE_UNSHARE, _CLOSE_RANGE_UNSHARE),
        "clone3": [_refuse(errno.ENOSYS)],  # likewise; the C library falls back to clone
        "tgkill": _only(0, (pid,)),
        "fcntl": _only(1, _FCNTL),
        "ioctl": _only(1, _IOCTL),
        "prctl": _only(0, _PRCTL),
        # Reading limits: with no new limit (third argument, a pointer: both halves).
        "prlimit64": [*_load(2, high=True), (_EQUAL, 1, 0, 0), _refuse(errno.EPERM), *_only(2, (0,))],
    }


def _only(argument: int, values: tuple[int, ...], mask: int | None = None) -> Code:
    """Allow when the argument (its low 32 bits, masked) is one of the values."""
    code = _load(argument) + ([(_AND, 0, 0, mask)] if mask is not None else [])
    for value in values:
        code += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [*code, _refuse(errno.EPERM)]


def _unless(argument: int, mask: int, value: int) -> Code:
    """Allow unless the masked argument has this value."""
    return [*_load(argument), (_AND, 0, 0, mask), (_EQUAL, 0, 1, value), _refuse(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]


def _load(argument: int, *, high: bool = False) -> Code:
    return [(_LOAD, 0, 0, 16 + 8 * argument + (4 if high else 0))]  # little-endian: the low half comes first


def _refuse(number: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _REFUSE | number)
