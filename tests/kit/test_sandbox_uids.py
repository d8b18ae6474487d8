"""Each sandbox that runs as root's child has an id of its own on this host, so that none starves another of threads."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.kit.sandbox import Sandbox, SandboxError, lockdown, uids
from services.kit.sandbox.uids import Uid

ENTRY = "tests.kit.sandboxed:python"
WORKER = b"""
import os, threading
threading.stack_size(65536)
def hold(count):
    ready = threading.Event()
    for _ in range(count): threading.Thread(target=ready.wait, daemon=True).start()
def main(count):
    hold(int(count))
    return str(os.getuid()).encode()
"""
OTHER = """
import asyncio
from services.kit.sandbox import Sandbox
async def main():
    sandboxes = [Sandbox({entry!r}, {source!r}, deadline_s=30, memory_mb=4096) for _ in range(3)]
    for each in sandboxes: await each.start()
    print(*[(await each.call(b"400")).decode() for each in sandboxes], flush=True)
    await asyncio.to_thread(input)
asyncio.run(main())
"""
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives ids")


@root
async def test_no_two_sandboxes_of_a_host_share_an_id_or_its_threads() -> None:
    code = OTHER.format(entry=ENTRY, source=WORKER)
    pipe = subprocess.PIPE
    others = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, cwd=lockdown.PROJECT, stdin=pipe, stdout=pipe
        )
        for _ in range(3)
    ]  # fmt: skip
    try:
        said = [(await each.stdout.readline()).split() for each in others if each.stdout]
        assert [len(each) for each in said] == [3, 3, 3]
        assert len({uid for each in said for uid in each}) == 9
    finally:
        await asyncio.gather(*(each.communicate(b"\n") for each in others))


@root
async def test_an_id_is_given_back_once_its_process_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uids, "IDS", 1)
    monkeypatch.setattr(uids, "_FOLDER", tmp_path)
    first, second = (Sandbox(ENTRY, WORKER) for _ in range(2))
    await first.start()
    with pytest.raises(SandboxError, match="no id is left"):
        await second.start()
    await first.close()
    await second.start()
    assert await second.call(b"0") == str(uids.FIRST).encode()
    await second.close()


def test_an_id_is_free_again_when_its_owner_was_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uids, "IDS", 1)
    monkeypatch.setattr(uids, "_FOLDER", tmp_path)
    code = f"""
from pathlib import Path
from services.kit.sandbox import uids
uids.IDS, uids._FOLDER = 1, Path({str(tmp_path)!r})
print(uids.Uid.take().number, flush=True)
input()
"""
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=lockdown.PROJECT
    )
    with owner:
        assert owner.stdout
        assert int(owner.stdout.readline()) == uids.FIRST
        with pytest.raises(SandboxError, match="no id is left"):
            Uid.take()
        owner.kill()
    uid = Uid.take()
    assert uid.number == uids.FIRST
    uid.give_back()


def test_a_file_that_somebody_else_could_have_made_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uids, "_FOLDER", tmp_path)
    (tmp_path / "there").touch()
    (tmp_path / "fairlead-sandbox-ids").symlink_to(tmp_path / "there")
    with pytest.raises(OSError, match="symbolic"):
        Uid.take()
    if os.geteuid() == 0:
        (tmp_path / "fairlead-sandbox-ids").unlink()
        (tmp_path / "fairlead-sandbox-ids").touch()
        os.chown(tmp_path / "fairlead-sandbox-ids", uids.FIRST, uids.FIRST)
        with pytest.raises(PermissionError, match="somebody else"):
            Uid.take()
