"""How the kernel shares a processor out between who answers callers and who computes for long."""

import platform
import struct
from contextlib import suppress

from .sandbox import libc

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(platform.machine(), -1)
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")
"""Of `struct sched_attr`: size, policy, flags, nice value, priority, slice [ns], deadline, period, two utilisations."""
_NOT_OF_CHILDREN = 0x01
_SLICE_NS = 100_000
"""The shortest that the kernel takes."""


def answer_soon() -> None:
    """Let this thread run as soon as it has something to do, before others of the same right who are in the middle of
    their slice: a worker that waits for the end of a model's slice lets its callers wait 3 ms. It gets no more of the
    processor in all. Neither its threads nor its children inherit it; where the kernel (before Linux 6.12) does not
    know slices of one's own, nothing changes.
    Source: https://docs.kernel.org/scheduler/sched-eevdf.html.
    """
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, _NOT_OF_CHILDREN, 0, 0, _SLICE_NS, 0, 0, 0, 0)
    with suppress(OSError):
        libc.syscall(_SCHED_SETATTR, 0, wanted, 0)
