"""The object store: by digest, never overwritten, checked on the way out."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from services.kit.errors import Invalid, NotFound, Unavailable
from services.kit.objects import Objects
from services.kit.settings import Settings


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(Settings(home=tmp_path))


async def test_what_was_put_is_got_by_its_digest(objects: Objects, tmp_path: Path) -> None:
    digest = await objects.put(b"a model")
    assert await objects.get(digest) == b"a model"
    assert (await objects.fetch(digest, tmp_path / "to" / "model")).read_bytes() == b"a model"


async def test_a_copy_is_its_owner_s_alone_whatever_the_launcher_s_mask(objects: Objects, tmp_path: Path) -> None:
    digest = await objects.put(b"rows")
    before = os.umask(0)
    try:
        copy = await objects.fetch(digest, tmp_path / "copy")
    finally:
        os.umask(before)
    assert copy.stat().st_mode & 0o777 == 0o600


async def test_a_copy_that_is_kept_is_on_the_disk_before_it_has_its_name_and_then_its_name_is(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, real, to = list[tuple[int, int, bool]](), os.fsync, tmp_path / "to" / "model"

    def fsync(file: int) -> None:
        status = os.fstat(file)
        synced.append((status.st_ino, status.st_size if to.parent.stat().st_ino != status.st_ino else 0, to.exists()))
        real(file)

    digest = await objects.put(b"a model")
    monkeypatch.setattr(os, "fsync", fsync)
    await objects.fetch(digest, to, kept=True)
    assert synced == [(to.stat().st_ino, 7, False), (to.parent.stat().st_ino, 0, True)]


async def test_a_file_and_its_bytes_have_one_digest(objects: Objects, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"a model")
    assert await objects.put_file(tmp_path / "model") == await objects.put(b"a model")


async def test_bytes_altered_on_disk_are_noticed(objects: Objects, tmp_path: Path) -> None:
    digest = await objects.put(b"a model")
    [stored] = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    stored.write_bytes(b"another")
    with pytest.raises(Invalid, match="altered"):
        await objects.get(digest)


async def test_a_digest_that_nobody_put_is_not_found(objects: Objects) -> None:
    with pytest.raises(NotFound):
        await objects.get("sha256:" + "0" * 64)
    assert not await objects.exists("sha256:" + "0" * 64)


@pytest.mark.parametrize("digest", ["", "sha256:../../etc/passwd", "md5:" + "0" * 64, "sha256:" + "G" * 64])
async def test_what_is_no_digest_never_becomes_a_path(objects: Objects, digest: str) -> None:
    with pytest.raises(Invalid):
        await objects.get(digest)


async def test_a_stream_says_that_there_is_nothing_before_an_answer_begins(objects: Objects) -> None:
    with pytest.raises(NotFound):
        await objects.stream("sha256:" + "0" * 64)
    digest = await objects.put(b"a model")
    assert [chunk async for chunk in await objects.stream(digest)] == [b"a model"]


async def test_a_store_that_breaks_off_is_away_and_leaves_no_file(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        async def stream(self, min_chunk_size: int) -> AsyncIterator[bytes]:
            yield b"half"
            raise GenericError("the connection was reset")

    async def asked(*_: object) -> Broken:
        return Broken()

    monkeypatch.setattr(objects, "_ask", asked)
    with pytest.raises(Unavailable, match="reset"):
        await objects.fetch("sha256:" + "0" * 64, tmp_path / "to" / "model")
    assert list((tmp_path / "to").iterdir()) == []
