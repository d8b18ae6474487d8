"""Pickles that no magic names: the old text form, and any that begins with something other than its protocol."""

import pickletools
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, cast

_LONGEST = 1024 * 1024
_FARTHEST = 1 << 40
_NAME = re.compile(r"[A-Za-z_][\w.-]*( [A-Za-z_][\w.]*)?")
"""What may be a module, or a module with what it holds, as pickletools tells it."""
_CALLING = frozenset({"BUILD", "INST", "NEWOBJ", "NEWOBJ_EX", "OBJ", "REDUCE"})
_CODES = {each.code.encode("latin-1"): each for each in pickletools.opcodes}


def builds(file: IO[bytes]) -> bool:
    """Whether a file, read as a pickle from where it stands, names a function and calls it, whatever follows.

    The stack is counted as no lower than it would be, so that what ends here would end in an error there too. A name
    that no module has is passed over: most texts that read as a pickle for a while have such a one.
    """
    height = 0
    named = has_name = False
    for code, argument in _operations(file):
        height -= sum(each is not pickletools.stackslice for each in code.stack_before)
        if height < 0:
            return False
        height += len(code.stack_after)
        is_name = isinstance(argument, str) and _NAME.fullmatch(argument) is not None
        named = named or (is_name and code.name in ("GLOBAL", "INST")) or (has_name and code.name == "STACK_GLOBAL")
        has_name = has_name or is_name
        if named and code.name in _CALLING:
            return True
    return False


def _operations(file: IO[bytes]) -> Iterator[tuple[pickletools.OpcodeInfo, object]]:
    """The operations with their arguments, up to the end or to what is none.

    An argument that pickletools does not take, as a number in hexadecimal, does not end them: pickle may take it.
    """
    skimmed = cast(IO[bytes], _Skimmed(file))
    while code := _CODES.get(file.read(1)):
        argument: object = None
        with suppress(ValueError):
            argument = code.arg.reader(skimmed) if code.arg else None
        yield code, argument
        if code.name == "STOP":
            return


class _Skimmed:
    """A file as pickletools reads it, of which long arguments are passed over."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if size <= _LONGEST:
            return self._file.read(size)
        self._file.seek(min(size, _FARTHEST), 1)
        return b""

    def readline(self) -> bytes:
        part = line = self._file.readline(_LONGEST)
        while part and not part.endswith(b"\n"):
            part = self._file.readline(_LONGEST)
        return line
