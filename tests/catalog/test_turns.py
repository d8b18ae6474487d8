"""Many uploads at once, slow ones, cut ones, and a disk that is full: each is refused by name and leaves nothing."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from services.catalog.intake import Intake
from services.catalog.settings import CatalogSettings
from services.kit.objects import Objects
from services.kit.testing import eventually
from tests.turning import check_turns

from .conftest import Client
from .test_api import problem, small, upload


def intake(home: Path, **given: int) -> Intake:
    settings = CatalogSettings(home=home, **given)  # pyright: ignore[reportArgumentType]
    return Intake(settings, Objects(settings))


def test_one_caller_takes_some_turns_and_all_take_a_few(tmp_path: Path) -> None:
    check_turns(intake(tmp_path, uploads=3, uploads_each=2).turn, "packages")


async def test_what_a_killed_process_left_is_removed_and_what_is_in_work_stays(tmp_path: Path) -> None:
    left = tmp_path / "run" / "catalog" / "left"
    left.mkdir(parents=True)
    (left / "upload").write_bytes(b"x")
    async with intake(tmp_path).folder() as work:
        assert not left.exists()
        intake(tmp_path)
        assert work.exists()
    assert not work.exists()


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """A disk of 1 MiB where packages are unpacked, where we may mount one."""
    disk = home / "run" / "catalog"
    disk.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes more rights than we have here")
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_a_full_disk_refuses_the_upload_and_keeps_nothing(small_disk: Path, as_: Client) -> None:
    client = as_("data-scientist")
    problem(await upload(client, os.urandom(2 * 1024 * 1024)), 507)
    assert list(small_disk.iterdir()) == []
    assert (await upload(client, small())).status_code == 201


async def test_an_upload_that_breaks_off_keeps_nothing(as_: Client, home: Path) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="package"\r\n\r\n'
        yield b"y" * 100_000

    headers = {"content-type": "multipart/form-data; boundary=x"}
    client: httpx.AsyncClient = as_("data-scientist")
    problem(await client.post("/v1/models", content=cut(), headers=headers), 422)
    await eventually(lambda: list((home / "run" / "catalog").iterdir()) == [])
