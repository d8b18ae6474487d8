"""Why code failed, out of what it says: the words that tell it, and what of them holds nothing of the data.

An exception's message may hold values of the rows in hand; its class and the place in the code do not. The words are
for whoever gave the code and its input, the place is for logs.
"""

import os
import re
import sys
import traceback
from pathlib import Path
from types import TracebackType

from .lockdown import PROJECT

_HOUSE = str(PROJECT / "services") + os.sep
_MOST = 400
"""Characters of last words; whoever passes them on keeps all of them."""
_CAUSE = re.compile(r"^(?!\s*at\s).*\b[\w.$]*(?:Error|Exception)\b.*$|^panic: .*$|^.*\bpanicked at\b.*$", re.MULTILINE)
_CLASS = re.compile(r"\b[A-Za-z_][\w.$]*(?:Error|Exception)\b|\bpanic")
_PLACE = re.compile(
    r'File "(?P<py>[^"\n]+)", line (?P<at>\d+)|(?P<file>[\w./\\@+-]*[\w-]\.[A-Za-z]{1,5}):(?P<line>\d+)'
)
_TOLD = re.compile(r"[\w.$]+(?: at [^\s:]+:\d+ in [\w<>.]+)?(?: \(from [^\s:]+:\d+ in [\w<>.]+\))?", re.ASCII)


def last_words(said: str) -> str:
    """The end of a process's standard error: from the last line on that names an error, else its last characters."""
    causes = list(_CAUSE.finditer(said))
    return said[causes[-1].start() :].strip()[:_MOST] if causes else said[-_MOST:].strip()


def place_in(said: str) -> str:
    """The class of the error that a standard error ends with, and the file and line; empty where it names none."""
    causes = list(_CAUSE.finditer(said))
    if not causes or not (kind := _CLASS.search(causes[-1].group())):
        return ""
    after = _PLACE.search(said, causes[-1].end())
    before = list(_PLACE.finditer(said, 0, causes[-1].start()))
    found = after or (before[-1] if before else None)
    name = kind.group().rpartition(".")[2][:80]
    if found is None:
        return name
    return f"{name} at {_short(found['py'] or found['file'])}:{found['at'] or found['line']}"


def place_of(error: BaseException, *, house: bool = False) -> str:
    """The class of an exception and where it was raised: the model's own file, and the library's within. `house`: the
    house's own file, where no other one was reached."""
    all_of_it = _frames(error.__traceback__)
    frames = [frame for frame in all_of_it if not frame[0].startswith(_HOUSE)] or (all_of_it[-1:] if house else [])
    own = [frame for frame in frames if f"{os.sep}package{os.sep}" in frame[0]]
    first = own[-1] if own else frames[-1] if frames else None
    said = type(error).__name__[:80]
    if first:
        said += f" at {_at(first)}"
    if first and frames[-1] != first:
        said += f" (from {_at(frames[-1])})"
    return said


def as_place(told: str) -> str:
    """What a stranger's process says of a place, where it is one; else nothing of it."""
    return told if len(told) <= _MOST and _TOLD.fullmatch(told) else ""


def _frames(at: TracebackType | None) -> list[tuple[str, int, str]]:
    return [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in traceback.walk_tb(at)]


def _at(frame: tuple[str, int, str]) -> str:
    return f"{_short(frame[0])}:{frame[1]} in {frame[2]}"


def _short(file: str) -> str:
    """Within the package, within the libraries, else its name."""
    for folder in (f"{os.sep}package{os.sep}", f"{os.sep}site-packages{os.sep}"):
        if folder in file:
            return file.rpartition(folder)[2][:120]
    library = next((path for path in sys.path if path and file.startswith(path.rstrip(os.sep) + os.sep)), None)
    return (file[len(library) :].lstrip(os.sep) if library else Path(file).name)[:120]
