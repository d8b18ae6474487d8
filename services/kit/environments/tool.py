"""uv, the tool that finds and installs packages: wheels only, so that nothing of a package runs meanwhile."""

import asyncio
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from uv import find_uv_bin

from ..errors import Invalid, Unavailable
from .locks import FIELD, Pin, pins

_AWAY = re.compile(
    r"error sending request|Failed to fetch|dns error|Connection refused|connection closed|timed out|Could not connect"
    r"|network connectivity|HTTP status (server|client) error \((5\d\d|429)",
    re.IGNORECASE,
)
_LOOK_S = 0.5
_NOT_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")


async def lock(wanted: Sequence[str], *, timeout_s: float) -> bytes:
    """A lock of what fits these requirements on this machine's Python, with hashes.

    Raises Invalid with why nothing fits, Unavailable where packages cannot be looked up.
    """
    options = ["--generate-hashes", "--only-binary", ":all:", "--no-header", "--no-annotate"]
    said = await _uv(["pip", "compile", "-", *options], "\n".join(wanted).encode(), timeout_s)
    return b"".join(pin.line.encode() + b"\n" for pin in pins(said))


async def install(locked: Sequence[Pin], to: Path, look: Callable[[], None], *, timeout_s: float) -> None:
    """Install what a lock names, and nothing else, into a folder. `look` is called meanwhile and may raise.

    Raises Invalid where it cannot be installed, Unavailable where it cannot be fetched.
    """
    # Copied, not linked: what others do to uv's cache is not done to a model.
    options = ["--only-binary", ":all:", "--no-deps", "--require-hashes", "--link-mode", "copy", "--compile-bytecode"]
    given = "".join(f"{pin.line}\n" for pin in locked).encode()
    await _uv(["pip", "install", "-r", "-", "--target", str(to), *options], given, timeout_s, look)


async def _uv(
    arguments: Sequence[str], given: bytes, timeout_s: float, look: Callable[[], None] | None = None
) -> bytes:
    """Run uv for this Python; `look` is called while it runs and may raise. Raises Invalid, Unavailable."""
    command = [find_uv_bin(), *arguments, "--python", sys.executable, "--quiet", "--no-progress", "--color", "never"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd="/", env=_environment(),
    )  # fmt: skip
    talk = asyncio.ensure_future(process.communicate(given))
    try:
        async with asyncio.timeout(timeout_s):
            while not talk.done():
                await asyncio.wait([talk], timeout=_LOOK_S)
                if look and not talk.done():
                    await asyncio.to_thread(look)
        said, errors = await talk
    except TimeoutError:
        raise Unavailable(f"the libraries did not come within {timeout_s:g} s; try again") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise _failed(errors.decode(errors="replace"))
    return said


def _environment() -> dict[str, str]:
    """The operator's: it says where packages come from. Without what would lead uv to another Python."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_OURS}


def _failed(errors: str) -> Invalid | Unavailable:
    told = " ".join(errors.split())
    if _AWAY.search(told):
        return Unavailable(f"packages cannot be fetched: {told[:300]}")
    return Invalid(f"requirements: {told[:600]}", FIELD)
