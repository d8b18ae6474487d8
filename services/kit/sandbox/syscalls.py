"""The kernel's calls that a sandboxed process may make: numbers for x86_64 and aarch64, from the kernel's headers."""

import platform

# Left out on purpose, and so refused: every way to run or become another process (execve, fork, ptrace, kill,
# process_vm_*, pidfd_*), to reach the network (socket and all of its family), to leave bounds (mount, unshare, setns,
# chroot, setuid, setrlimit, personality), to change what lies outside (chmod, chown, utimes, xattr, truncate and the
# link family: Landlock does not judge the first four), and the kernel's rarer engines (bpf, io_uring, perf, keys,
# userfaultfd, shared memory segments, memfd). None: this architecture does not have the call.
_NUMBERS: dict[str, tuple[int, int | None]] = {
    # hot first
    "read": (0, 63), "write": (1, 64), "futex": (202, 98), "readv": (19, 65), "writev": (20, 66),
    "mmap": (9, 222), "munmap": (11, 215), "madvise": (28, 233), "brk": (12, 214), "clock_gettime": (228, 113),
    # files and descriptors
    "pread64": (17, 67), "pwrite64": (18, 68), "preadv": (295, 69), "pwritev": (296, 70), "lseek": (8, 62),
    "close": (3, 57), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24),
    "flock": (73, 32), "fsync": (74, 82), "fdatasync": (75, 83), "ftruncate": (77, 46), "fallocate": (285, 47),
    "fadvise64": (221, 223), "sendfile": (40, 71), "copy_file_range": (326, 285), "creat": (85, None),
    "stat": (4, None), "lstat": (6, None), "fstat": (5, 80), "newfstatat": (262, 79), "statx": (332, 291),
    "statfs": (137, 43), "fstatfs": (138, 44), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78), "getdents": (78, None),
    "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50), "mkdir": (83, None),
    "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "umask": (95, 166),
    # memory
    "mprotect": (10, 226), "mremap": (25, 216), "msync": (26, 227), "mincore": (27, 232), "membarrier": (324, 283),
    # threads and signals of its own
    "sched_yield": (24, 124), "set_robust_list": (273, 99), "get_robust_list": (274, 100), "rseq": (334, 293),
    "set_tid_address": (218, 96), "exit": (60, 93), "exit_group": (231, 94), "restart_syscall": (219, 128),
    "gettid": (186, 178), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "sigaltstack": (131, 132), "alarm": (37, None),
    "setitimer": (38, 103), "getitimer": (36, 102),
    # waiting and time
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72), "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22), "eventfd2": (290, 19),
    "pipe": (22, None), "pipe2": (293, 59), "timerfd_create": (283, 85), "timerfd_settime": (286, 86),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_getres": (229, 114), "gettimeofday": (96, 169),
    "time": (201, None), "times": (100, 153),
    # asking about itself
    "getpid": (39, 172), "getppid": (110, 173), "getpgrp": (111, None), "getpgid": (121, 155), "getsid": (124, 156),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getgroups": (115, 158), "getresuid": (118, 148), "getresgid": (120, 150), "capget": (125, 90),
    "getrlimit": (97, 163), "getrusage": (98, 165), "sysinfo": (99, 179), "uname": (63, 160), "getcpu": (309, 168),
    "sched_getaffinity": (204, 123), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126), "getpriority": (140, 141),
    "getrandom": (318, 278), "arch_prctl": (158, None),
}  # fmt: skip

_RULED: dict[str, tuple[int, int | None]] = {
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "clone": (56, 220), "clone3": (435, 435),
    "tgkill": (234, 131), "fcntl": (72, 25), "ioctl": (16, 29), "prctl": (157, 167), "prlimit64": (302, 261),
    "close_range": (436, 436), "execveat": (322, 281), "mmap": (9, 222),
}  # fmt: skip

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}

MACHINE = platform.machine()
KNOWN = MACHINE in _AUDIT_ARCH
ARCH = _AUDIT_ARCH.get(MACHINE, 0)
SECCOMP = _SECCOMP.get(MACHINE, -1)
EXECVEAT = {"x86_64": 322, "aarch64": 281}.get(MACHINE, -1)
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446  # the same on both
_PLACE = 0 if MACHINE == "x86_64" else 1


def allowed() -> list[int]:
    """Numbers of the calls that need no look at their arguments."""
    return [numbers[_PLACE] for numbers in _NUMBERS.values() if numbers[_PLACE] is not None]  # pyright: ignore[reportReturnType]


def ruled(name: str) -> int | None:
    """The number of a call whose arguments decide; None where this architecture does not have it."""
    return _RULED[name][_PLACE]
