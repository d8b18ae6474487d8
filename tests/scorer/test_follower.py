"""Following the desired state: nothing that is wrong for a moment ends it."""

import asyncio
import errno
from pathlib import Path

import orjson
import pytest

from services.kit.testing import eventually
from services.scorer.dataplane import DataPlane
from services.scorer.files import write_atomically
from services.scorer.follower import Follower

from .making import House


async def test_a_file_that_cannot_be_opened_for_a_while_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = House(tmp_path / "home").settings
    follower = Follower(DataPlane(settings), settings, "worker-0")
    write_atomically(settings.desired_path, orjson.dumps({"caught_up": True, "endpoints": {}, "floors": {}}))
    tried: list[Path] = []

    def no_descriptor(path: Path) -> bytes:
        tried.append(path)
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", no_descriptor)
        following = asyncio.create_task(follower.run())
        await eventually(lambda: len(tried) > 1, within=10)
    await eventually(lambda: follower.caught_up, within=10)
    following.cancel()
