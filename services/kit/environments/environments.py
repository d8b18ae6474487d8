"""The environments of a host: one folder for each lock."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.machinery import all_suffixes
from pathlib import Path

from ..errors import Invalid
from ..settings import Settings
from ..telemetry import get_logger
from .locks import FIELD, Pin, key, pins
from .tool import install

log = get_logger(__name__)

_SITE, _SEEN, _USED = "site", "seen", "used"
_LOOK_S = 0.5
_UNUSED_S = 86_400.0
_NOT_THEIRS = sys.stdlib_module_names | {"services", "contracts", "fairlead"}


class Environments:
    """The folder of a host where environments are; any number of processes share it."""

    def __init__(self, folder: Path, *, most_bytes: int, most_bytes_all: int, timeout_s: float) -> None:
        """`most_bytes`: of one environment; `most_bytes_all`: of all, before unused ones go; `timeout_s`: how long one
        may take to be installed."""
        self._folder = folder
        self._most_bytes = most_bytes
        self._most_bytes_all = most_bytes_all
        self._timeout_s = timeout_s

    @classmethod
    def of(cls, settings: Settings) -> "Environments":
        """Those of this host."""
        return cls(
            settings.home.absolute() / "environments", most_bytes=settings.environment_bytes,
            most_bytes_all=settings.environments_bytes, timeout_s=settings.environment_s,
        )  # fmt: skip

    def path(self, locked: bytes) -> Path:
        """Where the libraries of a lock are, or will be. Raises Invalid."""
        return self._folder / key(pins(locked)) / _SITE

    def there(self, locked: bytes) -> Path | None:
        """The libraries of a lock where they are installed and nobody touched them since; None: `built` them."""
        place = self.path(locked).parent
        try:
            seen = (place / _SEEN).read_text()
        except FileNotFoundError:
            return None
        if seen != _fingerprint(place / _SITE):
            log.error("an environment was altered: it is installed anew", environment=place.name)
            return None
        (place / _USED).touch()
        return place / _SITE

    async def built(self, locked: bytes) -> Path:
        """The folder of a lock's libraries, installed where it is not there yet. Others that want it too wait.

        Raises Invalid where the lock cannot be installed, Unavailable where packages cannot be fetched.
        """
        place = self.path(locked).parent
        async with self._held(place):
            if found := await asyncio.to_thread(self.there, locked):
                return found
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
            await self._build(place, pins(locked))
        return place / _SITE

    async def _build(self, place: Path, locked: Sequence[Pin]) -> None:
        part = place.with_name(f"{place.name}.part")
        await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
        part.mkdir(parents=True)
        started = time.monotonic()
        try:
            await install(locked, part / _SITE, lambda: self._check_size(part), timeout_s=self._timeout_s)
            self._check_size(part)
            _check_names(part / _SITE)
            part.rename(place)
            (place / _USED).touch()
            (place / _SEEN).write_text(await asyncio.to_thread(_fingerprint, place / _SITE))
        finally:
            await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
        await asyncio.to_thread(self._make_room)
        log.info("an environment is installed", environment=place.name, packages=len(locked),
                 seconds=round(time.monotonic() - started, 1))  # fmt: skip

    def _check_size(self, part: Path) -> None:
        if _size(part) > self._most_bytes:
            raise Invalid(f"requirements: the libraries take more than {self._most_bytes} bytes", FIELD)

    def keep(self, locked: Iterable[bytes]) -> None:
        """What is in use stays, however long ago it was loaded: to be said every now and then, at least daily."""
        for place in (self.path(each).parent for each in locked):
            if place.is_dir():
                (place / _USED).touch()

    def _make_room(self) -> None:
        """Delete what nobody used for a day, the longest unused first, until all take as much as they may."""
        places = [path.parent for path in self._folder.glob(f"*/{_USED}")]
        total = _size(self._folder)
        for place in sorted(places, key=_used_at):
            if total <= self._most_bytes_all or time.time() - _used_at(place) < _UNUSED_S:
                return
            total -= _size(place)
            shutil.rmtree(place, ignore_errors=True)
            log.info("libraries that no model uses are gone", environment=place.name)

    @asynccontextmanager
    async def _held(self, place: Path) -> AsyncGenerator[None]:
        """One builder at a time, over all processes of the host."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place.with_name(f"{place.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(_LOOK_S)
            yield
        finally:
            os.close(descriptor)


def _check_names(site: Path) -> None:
    """Raise Invalid where something would be imported by a name of Python's own library, or of the house."""
    suffixes = tuple(all_suffixes())
    for path in sorted(site.iterdir()):
        name = path.name.partition(".")[0] if path.name.endswith(suffixes) else path.name
        if name in _NOT_THEIRS:
            whose = "Python's own library" if name in sys.stdlib_module_names else "the platform"
            raise Invalid(
                f"requirements: {path.name} has the name of a module of {whose}: leave out what brings it", FIELD
            )


def _fingerprint(site: Path) -> str:
    """What the file system says of each file. Its time of change nobody sets at will: one that was touched shows."""
    found = hashlib.sha256()
    for at, folders, names in os.walk(site):
        folders.sort()
        for name in sorted(names):
            about = os.lstat(path := os.path.join(at, name))  # noqa: PTH118 - tens of thousands
            found.update(f"{path}\0{about.st_size} {about.st_ino} {about.st_ctime_ns}\n".encode())
    return found.hexdigest()


def _used_at(place: Path) -> float:
    try:
        return (place / _USED).stat().st_mtime
    except FileNotFoundError:  # gone since it was listed
        return time.time()


def _size(folder: Path) -> int:
    size = 0
    for at, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(at, name)).st_blocks * 512  # noqa: PTH118
            except OSError:
                continue  # gone since it was listed
    return size
