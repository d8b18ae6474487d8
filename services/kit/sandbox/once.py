"""One execution and no other: the kernel asks before it executes anything, is told yes once, and then nobody listens.

seccomp's user notification (seccomp_unotify(2)): a filtered call waits for whoever holds the listener. A thread of this
process that was there before the filter answers the first time. As the program begins, the kernel ends that thread and
closes the listener: from then on the call fails with ENOSYS, whatever its arguments are.
"""

import fcntl
import struct
import threading

from .syscalls import EXECVEAT

_REQUEST = struct.Struct("<QII i I Q 6Q")
"""Of `struct seccomp_notif`: id, pid, flags; number, architecture, instruction, arguments of the call."""
_ANSWER = struct.Struct("<Qqi I")
_RECEIVE = 0xC0000000 | _REQUEST.size << 16 | ord("!") << 8
_SEND = 0xC0000001 | _ANSWER.size << 16 | ord("!") << 8
_CONTINUE = 1


class Once:
    """To be made before the filter, of which its thread is free."""

    def __init__(self) -> None:
        self._listener: int | None = None
        self._ready = threading.Event()
        threading.Thread(target=self._answer, daemon=True).start()

    def listen(self, listener: int) -> None:
        """Let the next execution pass, of which the filter's listener hears."""
        self._listener = listener
        self._ready.set()

    def _answer(self) -> None:
        self._ready.wait()
        assert self._listener is not None
        asked = bytearray(_REQUEST.size)
        fcntl.ioctl(self._listener, _RECEIVE, asked)
        id, _, _, number, *_ = _REQUEST.unpack(asked)
        if number == EXECVEAT:
            fcntl.ioctl(self._listener, _SEND, bytearray(_ANSWER.pack(id, 0, 0, _CONTINUE)))
