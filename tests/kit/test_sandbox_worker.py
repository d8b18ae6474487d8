"""A sandboxed worker answers, dies, is ended and comes back; its parent never suffers."""

import asyncio
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from services.kit.sandbox import (
    ProgramSandbox,
    Sandbox,
    SandboxDeadline,
    SandboxDied,
    SandboxError,
    SandboxUnavailable,
    landlock,
    layers,
    lockdown,
    run_sandboxed,
)
from services.kit.sandbox.scratch import Scratch
from services.kit.testing import eventually

ENTRY = "tests.kit.sandboxed:python"
ECHO = b"def main(x):\n    return x"
DEEDS = b"""
import ctypes, os, socket, stat, sys, threading, time
def is_socket(fd):
    try: return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError: return False
def main(deed):
    exec(deed.decode(), globals())
    return b'done'
"""


async def _started(source: bytes, deadline_s: float = 5.0, **bounds: Any) -> Sandbox:
    sandbox = Sandbox(ENTRY, source, deadline_s=deadline_s, **bounds)
    await sandbox.start()
    return sandbox


@pytest.mark.parametrize("size", [0, 1, 9, 65_536, 3_000_000])
async def test_any_bytes_come_back_as_they_went(size: int) -> None:
    sandbox = await _started(ECHO)
    payload = os.urandom(size)
    try:
        assert await sandbox.call(payload) == payload
        assert sandbox.rss > 1_000_000
    finally:
        await sandbox.close()


async def test_concurrent_calls_get_their_own_answers() -> None:
    sandbox = await _started(ECHO)
    try:
        answers = await asyncio.gather(*(sandbox.call(str(n).encode()) for n in range(200)))
        assert answers == [str(n).encode() for n in range(200)]
    finally:
        await sandbox.close()


async def test_a_call_costs_no_more_than_a_process_switch() -> None:
    sandbox = await _started(ECHO)
    try:
        took = []
        for _ in range(500):
            at = time.perf_counter()
            await sandbox.call(b"x" * 64)
            took.append(time.perf_counter() - at)
        assert min(took) < 150e-6, f"{min(took) * 1e6:.0f} µs at best, {sorted(took)[250] * 1e6:.0f} µs at the median"
    finally:
        await sandbox.close()


async def test_an_endless_loop_is_killed_at_its_deadline_and_the_worker_comes_back() -> None:
    sandbox = await _started(DEEDS, deadline_s=0.5)
    try:
        first, at = sandbox.pid, time.monotonic()
        with pytest.raises(SandboxDeadline, match=r"longer than 0\.5 s"):
            await sandbox.call(b"while True: pass")
        assert time.monotonic() - at < 2
        assert await eventually(lambda: _answer(sandbox)) == b"done"
        assert sandbox.restarts == 1
        assert not _lives(first)
    finally:
        await sandbox.close()


@pytest.mark.parametrize(
    ("deed", "ending"),
    [
        ("os._exit(7)", "exit status 7"),
        ("ctypes.string_at(0)", f"signal {int(signal.SIGSEGV)}"),
        ("os.abort()", f"signal {int(signal.SIGABRT)}"),
        ("os.write(2, b'the reason is here'); os._exit(1)", "the reason is here"),
        ("os.closerange(3, 99)", "ended"),
        ("os.write(next(filter(is_socket, range(3, 99))), b'\\x06' + b'\\xff' * 8)", "broke the protocol"),
        (
            "os.write(next(filter(is_socket, range(3, 99))), b'\\x06' + b'\\x63\\0\\0\\0' + b'\\0' * 4)",
            "spoke without being asked",
        ),
    ],
)
async def test_a_death_is_told_with_its_reason(deed: str, ending: str) -> None:
    sandbox = await _started(DEEDS)
    try:
        with pytest.raises(SandboxDied, match=ending):
            await sandbox.call(deed.encode())
            await sandbox.call(b"time.sleep(0.2)")
        assert await eventually(lambda: _answer(sandbox)) == b"done"
    finally:
        await sandbox.close()


async def test_whatever_fails_in_looking_after_a_worker_there_is_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = await _started(ECHO)
    spawn, failures = Sandbox._spawn, iter(range(2))

    async def failing(one: Sandbox) -> Any:
        if next(failures, None) is not None:
            raise ValueError("nobody foresaw this")
        return await spawn(one)

    async def unseen(within_s: float) -> None:
        raise RuntimeError("nobody foresaw this either")

    monkeypatch.setattr(Sandbox, "_spawn", failing)
    assert sandbox._process
    monkeypatch.setattr(sandbox._process, "look", unseen)
    try:
        await eventually(lambda: "foresaw" in sandbox.down, within=20)
        await eventually(lambda: sandbox.restarts == 1, within=20)
        assert await sandbox.call(b"x") == b"x"
        assert next(failures, None) is None, "it was tried again"
    finally:
        await sandbox.close()


async def test_the_pauses_between_restarts_grow_while_no_worker_answers() -> None:
    sandbox = await _started(DEEDS, deadline_s=10)
    try:
        deaths: list[float] = []
        for _ in range(4):
            with pytest.raises(SandboxDied):
                await sandbox.call(b"os._exit(1)")
            deaths.append(time.monotonic())
        pauses = [after - before for before, after in pairwise(deaths)]
        assert all(pause >= least for pause, least in zip(pauses, (0.2, 0.4, 0.8), strict=True)), pauses
        assert sandbox.restarts == 3
    finally:
        await sandbox.close()


@pytest.mark.parametrize("deed", [b"os._exit(1)", b"time.sleep(60)"], ids=["a crash", "the deadline"])
async def test_one_that_was_of_use_is_there_again_within_its_deadline_however_often_it_ends(deed: bytes) -> None:
    sandbox = await _started(DEEDS, deadline_s=1.5)
    try:
        for _ in range(6):
            assert await _answer(sandbox) == b"done"
            with pytest.raises(SandboxDied):
                await sandbox.call(deed)
            await eventually(lambda: bool(sandbox.down))
        assert await _answer(sandbox) == b"done"
        assert sandbox.restarts == 6
    finally:
        await sandbox.close()


async def test_ten_gigabytes_are_refused() -> None:
    outside = "import mmap; m = mmap.mmap(-1, 10 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)"
    subprocess.run([sys.executable, "-c", outside], check=True)
    sandbox = await _started(DEEDS, memory_mb=256)
    try:
        for deed in (outside, "bytearray(10 << 30)", "hoard = [bytearray(1 << 20) for _ in range(1000)]"):
            with pytest.raises(SandboxError, match=r"MemoryError|Cannot allocate memory"):
                await sandbox.call(deed.encode())
        assert sandbox.rss < 400 << 20
        assert sandbox.restarts == 0
    finally:
        await sandbox.close()


@pytest.mark.parametrize(
    ("deed", "refusal"),
    [
        ("import mmap; m = mmap.mmap(-1, 400 << 20); m.write(bytes(400 << 20))", "Operation not permitted"),
        ("import mmap; m = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | 0x120)", "Operation not permitted"),
        ("hoard = bytearray(400 << 20)", "MemoryError"),
    ],
)  # fmt: skip
async def test_memory_has_a_bound_where_libraries_of_its_own_have_room_to_be_mapped(
    deed: str, refusal: str, tmp_path: Path
) -> None:
    with (tmp_path / "large").open("wb") as file:  # as PyTorch's libraries are
        file.truncate(1 << 30)
    sandbox = await _started(DEEDS, memory_mb=64, packages=tmp_path)
    try:
        with pytest.raises(SandboxError, match=refusal):
            await sandbox.call(deed.encode())
        assert sandbox.rss < 200 << 20
        assert sandbox.restarts == 0
    finally:
        await sandbox.close()


async def test_a_worker_that_has_more_memory_than_its_limits_let_it_have_is_ended(tmp_path: Path) -> None:
    sandbox = await _started(DEEDS, memory_mb=256, packages=tmp_path)
    try:
        assert await sandbox.call(b"global hoard; hoard = b'x' * (128 << 20)") == b"done"
        assert sandbox._process
        sandbox._process._bounds = replace(sandbox._process._bounds, memory_mb=64)
        await eventually(lambda: "used more than 64 MB of memory" in sandbox._last, within=20)
    finally:
        await sandbox.close()


async def test_a_bomb_of_threads_ends_at_a_bound() -> None:
    deed = b"""
ready = threading.Event()
threading.stack_size(65536)  # the bound on memory shall not be what ends it
try:
    while threading.active_count() < 2000: threading.Thread(target=ready.wait, daemon=True).start()
except RuntimeError: pass
count = threading.active_count(); ready.set()
raise ValueError(count)
"""
    with pytest.raises(SandboxError, match=r"ValueError: \d{1,3}$"):
        sandbox = await _started(DEEDS, memory_mb=8192)
        try:
            await sandbox.call(deed)
        finally:
            await sandbox.close()


async def test_output_breaks_nothing_and_only_its_end_is_kept() -> None:
    sandbox = await _started(DEEDS)
    try:
        assert await sandbox.call(b"print('x' * 1_000_000); print('y' * 1_000_000, file=sys.stderr)") == b"done"
        with pytest.raises(SandboxDied) as died:
            await sandbox.call(b"print('the end', flush=True); os._exit(1)")
        assert str(died.value).endswith("the end")
        assert len(str(died.value)) < 5000
    finally:
        await sandbox.close()


async def test_a_worker_that_fills_the_disk_is_ended() -> None:
    sandbox = await _started(DEEDS, deadline_s=20, disk_mb=2)
    deed = b"""
for n in range(100):
    with open(os.environ['TMPDIR'] + f'/{n}', 'wb') as file: file.write(b'x' * 1_000_000)
time.sleep(10)
"""
    try:
        with pytest.raises(SandboxDied, match="wrote more than 2 MB"):
            await sandbox.call(deed)
    finally:
        await sandbox.close()


DELETED = {
    "open": ("held.append(file)", "of which it deleted files that it holds"),
    "mapped": ("held.append(mmap.mmap(file.fileno(), 4096)); file.close()", "of which it deleted files that it holds"),
    "mapped by the descriptor's number, which is closed": (
        "lib.mmap(None, 4096, 1, 1, file.fileno(), 0); file.close()",
        "of which it deleted files that it holds|maps a file that it deleted and closed",
    ),
    "open in a thread that outlives the first one": (
        "held.append(file)\n    if n == 9: threading.Thread(target=time.sleep, args=(30,)).start(); lib.syscall(60, 0)",
        "of which it deleted files that it holds",
    ),
    "in a folder that cannot be listed": ("pass", "made a folder that cannot be listed|wrote more than 2 MB"),
}


@pytest.mark.parametrize("way", DELETED)
async def test_a_worker_that_fills_the_disk_with_files_that_it_deleted_is_ended(way: str) -> None:
    """Files without a name are in no folder; the process that has them is looked at."""
    hold, reason = DELETED[way]
    sandbox = await _started(DEEDS, deadline_s=30, disk_mb=2)
    deed = f"""
import mmap
lib, held, place = ctypes.CDLL(None), [], os.environ['TMPDIR'] + '/dark'
lib.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
os.mkdir(place, 0o300 if 'listed' in {way!r} else 0o700)
for n in range(10):
    file = open(place + f'/{{n}}', 'wb+'); file.write(b'x' * 1_000_000); file.flush()
    if 'listed' not in {way!r}: os.unlink(file.name)
    {hold}
time.sleep(25)
"""
    try:
        with pytest.raises(SandboxDied, match=reason):
            await sandbox.call(deed.encode())
    finally:
        await sandbox.close()


async def test_files_without_a_name_within_the_bounds_are_nobodys_business() -> None:
    sandbox = await _started(DEEDS, disk_mb=2)
    try:
        deed = b"import tempfile; held = tempfile.TemporaryFile(); held.write(b'x' * 500_000); held.flush()"
        assert await sandbox.call(deed) == b"done"
        await asyncio.sleep(2.5)  # two looks
        assert await sandbox.call(b"held.seek(0); assert len(held.read()) == 500_000") == b"done"
        assert sandbox.restarts == 0
    finally:
        await sandbox.close()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of calls")
async def test_no_thread_has_descriptors_of_its_own() -> None:
    sandbox = await _started(DEEDS)
    alone = 0x100 | 0x800 | 0x10000  # CLONE_VM, CLONE_SIGHAND, CLONE_THREAD, without CLONE_FILES
    try:
        for call in (f"56, {alone}, 0, 0, 0, 0", "436, 1000, 1000, 2"):
            deed = f"assert ctypes.CDLL(None, use_errno=True).syscall({call}) == -1; assert ctypes.get_errno() == 1"
            assert await sandbox.call(deed.encode()) == b"done"
    finally:
        await sandbox.close()


async def test_one_file_has_a_bound_at_once() -> None:
    sandbox = await _started(DEEDS, disk_mb=2)
    try:
        assert await sandbox.call(b"open(os.environ['TMPDIR'] + '/small', 'wb').write(b'x' * 1_000_000)") == b"done"
        with pytest.raises(SandboxError, match="File too large"):
            await sandbox.call(b"open(os.environ['TMPDIR'] + '/big', 'wb').write(b'x' * 3_000_000)")
    finally:
        await sandbox.close()


async def test_a_worker_that_computes_while_nobody_asked_is_ended() -> None:
    sandbox = await _started(DEEDS, deadline_s=0.5)
    try:
        spinning = b"""
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
"""
        assert await sandbox.call(spinning) == b"done"
        await eventually(lambda: sandbox.restarts == 1, within=20)
    finally:
        await sandbox.close()


async def test_the_worker_dies_with_its_parent() -> None:
    script = f"""
import asyncio
from services.kit.sandbox import Sandbox
async def main():
    sandbox = Sandbox({ENTRY!r}, {DEEDS!r}, deadline_s=60)
    await sandbox.start()
    print(sandbox.pid, flush=True)
    await sandbox.call(b"while True: pass")
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=lockdown.PROJECT)
    assert parent.stdout is not None
    with parent:
        pid = int(parent.stdout.readline())
        assert _lives(pid)
        parent.kill()
    await eventually(lambda: not _lives(pid))


async def test_a_caller_that_goes_away_leaves_the_worker_in_order() -> None:
    sandbox = await _started(DEEDS)
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sandbox.call(b"time.sleep(0.3); raise ValueError('stale')"), 0.05)
        assert await sandbox.call(b"") == b"done"
        assert sandbox.restarts == 0
    finally:
        await sandbox.close()


async def test_an_answer_that_is_not_bytes_is_an_error() -> None:
    with pytest.raises(SandboxError, match="answered str, not bytes"):
        await run_sandboxed(ENTRY, b"def main(x):\n    return 'text'")


@pytest.mark.parametrize(
    ("source", "reason"), [(b"raise ValueError('no model')", "no model"), (b"while True: pass", "longer than")]
)
async def test_a_load_that_fails_is_told_at_the_start(source: bytes, reason: str) -> None:
    with pytest.raises(SandboxError, match=reason):
        await _started(source, deadline_s=0.5)


async def test_nothing_is_left_after_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    sandbox = await _started(DEEDS)
    pid = sandbox.pid
    await sandbox.call(b"os.mkdir('closed', 0); open('file', 'w').close()")
    await sandbox.close()
    assert not _lives(pid)
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    with pytest.raises(SandboxDied, match="closed"):
        await sandbox.call(b"")


async def test_nothing_is_left_of_a_process_that_could_not_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "gone"))
    program = ProgramSandbox(["x"], runtime=None, package=tmp_path, digest=None, greeting=b"", welcome=lambda _: None)
    before = sorted(Path("/proc/self/fd").iterdir())
    for sandbox in (Sandbox(ENTRY, ECHO), program):
        with pytest.raises(FileNotFoundError):
            await sandbox.start()
        assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert list(tmp_path.iterdir()) == []


async def test_what_a_killed_parent_left_goes_with_the_next_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("services.kit.sandbox.scratch._YOUNG_S", 0)
    left, living = tmp_path / "fairlead-sandbox-left", Scratch.make()
    (left / "deep").mkdir(parents=True)
    time.sleep(0.02)
    sandbox = await _started(ECHO)
    assert not left.exists()
    assert living.path.exists()
    await sandbox.close()
    living.remove()
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_layer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    layers.cache_clear()
    try:
        with pytest.raises(SandboxUnavailable, match="lacks landlock"):
            await _started(ECHO)
    finally:
        layers.cache_clear()


async def _answer(sandbox: Sandbox) -> bytes | None:
    try:
        return await sandbox.call(b"")
    except SandboxError:
        return None


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
