"""The spool: whole records survive anything, torn ones are cut, numbers never go back."""

import asyncio
import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.errors import Unavailable
from services.scorer import health
from services.scorer.forwarder import Slot
from services.scorer.health import Backlog
from services.scorer.logrecord import LogRecord
from services.scorer.spool import Spool, SpoolFull, aside, parse, segments
from services.scorer.spool import segment as segment_module
from services.scorer.spool import writer as writer_module
from services.scorer.spool.segment import HEADER_BYTES, SegmentReader, frame, occupied

PAYLOADS = st.lists(st.binary(max_size=200), max_size=8)


def opened(folder: Path, **more: int) -> Spool:
    return Spool(folder, **({"limit": 1 << 30, "segment_bytes": 1 << 20} | more))  # pyright: ignore[reportArgumentType]


def everything(folder: Path) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    for path in segments(folder):
        with SegmentReader(path) as reader:
            while (parsed := reader.read()).consumed:
                found += [(entry.seq, entry.payload) for entry in parsed.entries]
    return found


def test_segments_are_their_owner_s_alone_whatever_the_launcher_s_mask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        (tmp_path / "spare.part").write_bytes(b"")  # of a version that did not see to it
        spool = opened(tmp_path, segment_bytes=1000)
        for _ in range(3):
            spool.append(bytes(900))
        spool.close()
    finally:
        os.umask(before)
    assert len(segments(tmp_path)) == 3
    kept = [*segments(tmp_path), tmp_path / "spare.part"]
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


@given(PAYLOADS)
def test_what_is_framed_is_parsed(payloads: list[bytes]) -> None:
    data = b"".join(frame(i, payload) for i, payload in enumerate(payloads))
    parsed = parse(data)
    assert [(e.seq, e.payload) for e in parsed.entries] == list(enumerate(payloads))
    assert (parsed.consumed, parsed.damaged) == (len(data), 0)


@given(PAYLOADS, st.data())
def test_a_cut_at_any_byte_leaves_the_whole_records_before_it(payloads: list[bytes], data: st.DataObject) -> None:
    frames = [frame(i, payload) for i, payload in enumerate(payloads)]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    parsed = parse(whole[:cut])
    complete = sum(1 for i in range(len(frames)) if sum(map(len, frames[: i + 1])) <= cut)
    assert [e.payload for e in parsed.entries] == payloads[:complete]
    assert parsed.damaged == 0


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_flipped_bit_is_noticed(payload: bytes, data: st.DataObject) -> None:
    good = frame(7, payload) + frame(8, b"next")
    at = data.draw(st.integers(0, len(frame(7, payload)) - 1))
    bad = bytearray(good)
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    parsed = parse(bytes(bad))
    assert (7, payload) not in [(entry.seq, entry.payload) for entry in parsed.entries]


def test_every_truncation_of_a_real_spool_recovers(tmp_path: Path) -> None:
    made = tmp_path / "made"
    spool = opened(made)
    for payload in (b"one", b"", b"three" * 5):
        spool.append(payload)
    spool.close()
    whole = segments(made)[0].read_bytes()
    for cut in range(HEADER_BYTES, len(whole) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / segments(made)[0].name).write_bytes(whole[:cut])
        kept = parse(whole[HEADER_BYTES:cut])
        again = opened(folder)
        assert again.torn_bytes == cut - HEADER_BYTES - kept.consumed
        again.append(b"after")
        again.close()
        assert [payload for _, payload in everything(folder)] == [e.payload for e in kept.entries] + [b"after"]
        numbers = [seq for seq, _ in everything(folder)]
        assert numbers == sorted(set(numbers))


def test_numbers_go_on_after_a_restart_under_the_same_writer(tmp_path: Path) -> None:
    first = opened(tmp_path)
    numbers, writer = [first.append(b"a"), first.append(b"b")], first.writer
    first.close()
    second = opened(tmp_path)
    assert second.writer == writer
    assert second.append(b"c") > max(numbers)
    second.close()
    opened(tmp_path).close()  # a start without a record
    third = opened(tmp_path)
    assert third.append(b"d") > second.seq
    third.close()


def test_numbers_go_on_when_everything_was_forwarded_and_deleted(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    last = [spool.append(b"x") for _ in range(5)][-1]
    spool.close()
    for path in segments(tmp_path):
        path.unlink()
    (tmp_path / "forwarded.json").write_bytes(orjson.dumps({"segment": "", "offset": 0, "seq": last}))
    again = opened(tmp_path)
    assert again.append(b"y") > last
    again.close()


def test_a_slot_without_a_writer_keeps_nothing_that_kafka_has_and_numbers_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "0"
    spool, slot = opened(folder), Slot(folder)

    def drained() -> list[int]:
        taken: list[int] = []
        while not slot.still() and slot.open():
            _, _, numbers = slot.take()
            slot.acknowledged(numbers[-1] if numbers else slot.seq)
            taken += numbers
        slot.leave()
        return taken

    record = LogRecord("a", b"{", b"{}", b"", "story", "parent").to_spool()
    last = [spool.append(record) for _ in range(3)][-1]
    assert drained()[-1] == last
    assert segments(folder), "its writer may go on"
    spool.close()
    assert drained() == [] and not segments(folder)
    assert slot.still(), "nobody looks for what is not there"
    again = opened(folder)
    assert again.append(record) > last and not slot.still()
    assert drained() == [again.seq]
    again.close()


def test_a_reboot_makes_a_new_writer(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.close()
    said = orjson.loads((tmp_path / "writer.json").read_bytes())
    (tmp_path / "writer.json").write_bytes(orjson.dumps(said | {"boot": "another"}))
    second = opened(tmp_path)
    assert second.writer != first.writer
    second.close()


def test_segments_roll_and_keep_the_order(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=400)
    for i in range(50):
        spool.append(b"%d" % i * 10)
    spool.close()
    assert len(segments(tmp_path)) > 3
    assert [payload for _, payload in everything(tmp_path)] == [b"%d" % i * 10 for i in range(50)]


def test_a_record_larger_than_a_piece_is_read_whole(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(b"x" * 3_000_000)
    spool.append(b"small")
    spool.close()
    assert [len(payload) for _, payload in everything(tmp_path)] == [3_000_000, 5]


def test_beyond_its_bound_the_spool_refuses_and_takes_again_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scorer.spool.writer._LOOK_AGAIN_S", 0.0)
    spool = opened(tmp_path, limit=2000, segment_bytes=500)
    with pytest.raises(SpoolFull):
        for _ in range(100):
            spool.append(b"x" * 100)
    kept = len(everything(tmp_path))
    segments(tmp_path)[0].unlink()
    spool.append(b"room again")
    spool.close()
    assert kept > 10


def test_a_full_disk_leaves_no_half_record(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(b"before")
    limits = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)); "
    spool.close()
    script = limits + (
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path\nfrom services.scorer.spool import Spool, SpoolFull\n"
        "s = Spool(Path(sys.argv[1]), limit=1 << 30, segment_bytes=1 << 20)\n"
        "s.append(b'fits')\n"
        "try:\n    s.append(b'x' * 1000)\nexcept SpoolFull as e:\n    print('refused')\n"
        "s.append(b'fits too')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    assert [payload for _, payload in everything(tmp_path)] == [b"before", b"fits", b"fits too"]


def test_a_slot_has_one_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.scorer.spool.owner._LOCK_WAIT_S", 0.1)
    spool = opened(tmp_path)
    with pytest.raises(Unavailable):
        opened(tmp_path)
    spool.close()
    opened(tmp_path).close()


async def test_those_who_wait_for_the_disk_share_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (calls.append(file), real(file)))
    spool = Spool(tmp_path, limit=1 << 30, segment_bytes=1 << 20, fsync="always")
    numbers = [spool.append(b"x") for _ in range(20)]
    await asyncio.gather(*(spool.durable(seq) for seq in numbers))
    assert 1 <= len(calls) <= 3
    spool.close()


def test_a_damaged_record_in_the_middle_costs_only_itself(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for payload in (b"one", b"two", b"three"):
        spool.append(payload)
    spool.close()
    path = segments(tmp_path)[0]
    data = bytearray(path.read_bytes())
    data[data.index(b"two")] ^= 1
    path.write_bytes(bytes(data))
    parsed = segment_module.parse(bytes(data[HEADER_BYTES:]))
    assert ([entry.payload for entry in parsed.entries], parsed.damaged) == ([b"one", b"three"], 1)


# A disk that takes nothing


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


RECORD = LogRecord("id", b'{"rows":1', b"{}", b'{"x":"' + b"x" * 200 + b'"}', "story", "trace").to_spool()


def forward(folder: Path) -> int:
    """What the forwarder does with a slot while Kafka takes everything; answers how many records."""
    slot, count = Slot(folder), 0
    while slot.open():
        _, records, numbers = slot.take()
        slot.acknowledged(numbers[-1] if numbers else slot.seq)
        if not records:
            slot.again()
            return count
        count += len(records)
    return count


def test_a_disk_that_is_full_at_the_start_refuses_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(writer_module, "create", no_room)
        spool = opened(tmp_path)
        with pytest.raises(SpoolFull, match="No space"):
            spool.append(b"refused")
        assert "No space" in spool.trouble
    spool.append(b"taken")
    spool.close()
    assert [payload for _, payload in everything(tmp_path)] == [b"taken"]


def test_without_room_for_a_new_segment_the_old_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path, segment_bytes=400)
    with monkeypatch.context() as full:
        full.setattr(writer_module, "create", no_room)
        for i in range(20):
            spool.append(b"%d" % i * 20)
    spool.append(b"later")
    spool.close()
    assert [payload for _, payload in everything(tmp_path)] == [b"%d" % i * 20 for i in range(20)] + [b"later"]
    assert len(segments(tmp_path)) == 2


def test_what_stands_before_a_refused_record_can_be_forwarded_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path)
    for _ in range(5):
        spool.append(RECORD)
    (before,) = segments(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(writer_module.os, "write", no_room)
        with pytest.raises(SpoolFull):
            spool.append(RECORD)
    assert forward(tmp_path) == 5
    assert not before.exists()
    spool.append(RECORD)
    assert forward(tmp_path) == 1
    spool.close()


def test_a_full_disk_does_not_keep_the_forwarder_from_making_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path, segment_bytes=1000)
    for _ in range(20):
        spool.append(RECORD)
    with monkeypatch.context() as full:
        full.setattr("services.scorer.files.write_atomically", no_room)
        assert forward(tmp_path) == 20
    assert len(segments(tmp_path)) == 1
    numbers = spool.seq
    spool.close()
    again = opened(tmp_path)
    assert again.append(RECORD) > numbers
    again.close()


async def test_a_disk_that_does_not_keep_the_log_refuses_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, limit=1 << 30, segment_bytes=1 << 20, fsync="always")
    with monkeypatch.context() as broken:
        broken.setattr(writer_module.os, "fdatasync", no_room)
        with pytest.raises(SpoolFull):
            await spool.durable(spool.append(b"x"))
        with pytest.raises(SpoolFull):
            spool.append(b"y")
        assert spool.trouble
    await spool.sync()
    await spool.durable(spool.append(b"z"))
    spool.close()


async def test_a_record_is_durable_once_every_segment_before_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, limit=1 << 30, segment_bytes=500, fsync="always")
    spool.append(b"x" * 400)
    sealed = segments(tmp_path)[0].stat().st_ino
    spool.append(b"x" * 400)
    in_hand, go_on, kept, real = threading.Event(), threading.Event(), list[int](), os.fdatasync

    def slow(file: int) -> None:
        if os.fstat(file).st_ino == sealed:
            in_hand.set()
            go_on.wait()
        real(file)
        kept.append(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fdatasync", slow)
    first = asyncio.create_task(spool.sync())
    await asyncio.to_thread(in_hand.wait)
    second = asyncio.create_task(spool.durable(spool.append(b"x")))
    await asyncio.wait({second}, timeout=0.2)
    assert not second.done()
    go_on.set()
    await asyncio.gather(first, second)
    assert sealed in kept
    spool.close()


@pytest.mark.parametrize("sealed", [True, False])
async def test_what_a_disk_failed_to_keep_once_never_counts_as_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    spool = Spool(tmp_path, limit=1 << 30, segment_bytes=500 if sealed else 5_000, fsync="always")
    first, second = spool.append(b"x" * 400), spool.append(b"y" * 400)
    failing, size, real = segments(tmp_path)[0], segments(tmp_path)[0].stat().st_size, os.fdatasync

    def bad(file: int) -> None:
        if os.fstat(file).st_ino == failing.stat().st_ino:
            no_room()
        real(file)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", bad)
        with pytest.raises(SpoolFull):
            await spool.durable(second)
    await spool.sync()
    with pytest.raises(SpoolFull, match="did not keep"):
        await spool.durable(first)
    await spool.durable(spool.append(b"z"))
    assert failing.stat().st_size == size
    spool.close()
    assert [payload[:1] for _, payload in everything(tmp_path)] == [b"x", b"y", b"z"]


async def test_a_durable_record_s_segment_has_its_name_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, kept, real = Spool(tmp_path, limit=1 << 30, segment_bytes=500, fsync="always"), list[int](), os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (kept.append(os.fstat(file).st_ino), real(file)))
    await spool.durable(spool.append(b"x" * 400))
    await spool.durable(spool.append(b"x"))
    assert kept == [tmp_path.stat().st_ino]
    await spool.durable(spool.append(b"x" * 400))
    assert kept == [tmp_path.stat().st_ino] * 2
    spool.close()


def test_a_bound_no_larger_than_a_segment_is_no_dead_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.scorer.spool.writer._LOOK_AGAIN_S", 0.0)
    spool = opened(tmp_path, limit=4000, segment_bytes=1 << 20)
    with pytest.raises(SpoolFull):
        for _ in range(100):
            spool.append(RECORD)
    assert forward(tmp_path) > 5
    spool.append(RECORD)
    assert spool.used < 2000
    spool.close()


def test_a_segment_that_a_power_loss_left_empty_holds_nothing_and_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / f"{1:020}.seg").write_bytes(b"")
    spool = opened(tmp_path)
    spool.append(RECORD)
    spool.close()
    assert forward(tmp_path) == 1


@pytest.mark.parametrize(
    ("left", "damaged"),
    [(bytes(64), 0), (bytes(4096), 0), (bytes(64) + b"records", 1), (b"no header" * 20, 1)],
    ids=["a spare as it was", "a page of zeros", "no header", "another file"],
)
def test_what_a_power_loss_left_in_place_of_a_segment_stops_neither_writer_nor_forwarder(
    tmp_path: Path, left: bytes, damaged: int
) -> None:
    for names in ([2], [1, 9]):  # behind the newest segment, in front of all
        folder = tmp_path / str(len(names))
        spool = opened(folder)
        spool.append(RECORD)
        spool.close()
        for name in names:
            (folder / "left").write_bytes(left)
            (folder / "left").replace(folder / f"{name:020}.seg")
        sent = forward(folder)
        spool = opened(folder)
        spool.append(RECORD)
        assert sent + forward(folder) == (2 if names == [2] else 1), "what was overwritten is lost, and no more"
        assert aside(folder) == damaged * len(names)
        readable = sum(path.stat().st_size for path in segments(folder))
        assert occupied(folder) == readable, "what cannot be read takes no room"
        spool.close()


def test_a_segment_that_goes_while_a_writer_starts_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    spool.append(RECORD)
    spool.close()
    for name in (1, 7):
        (tmp_path / f"{name:020}.seg").write_bytes(b"no header" * 20)
    read = Path.read_bytes

    def gone(path: Path) -> bytes:
        if path.name == f"{1:020}.seg":
            path.unlink()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", gone)
    spool = opened(tmp_path)
    spool.append(RECORD)
    assert aside(tmp_path) == 1 and not spool.trouble
    spool.close()


def test_a_segment_that_cannot_be_set_aside_refuses_records_and_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{7:020}.seg").write_bytes(b"no header" * 20)

    def refused(path: Path, to: Path) -> Path:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refused)
        spool = opened(tmp_path)
        assert spool.trouble == "Input/output error"
    spool.append(RECORD)
    spool.close()


async def test_a_spare_is_kept_with_a_header_before_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, kept, real = opened(tmp_path / "0"), dict[int, bytes](), os.fdatasync

    def fdatasync(file: int) -> None:
        kept[os.fstat(file).st_ino] = Path(f"/proc/self/fd/{file}").read_bytes()
        real(file)

    spool.append(RECORD)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    await spool.sync()
    as_kept = tmp_path / "kept" / f"{2:020}.seg"
    as_kept.parent.mkdir()
    as_kept.write_bytes(kept[(tmp_path / "0" / "spare.part").stat().st_ino])
    with SegmentReader(as_kept) as reader:
        assert (reader.writer, reader.first_seq) == (spool.writer, 2)
    spool.close()


def test_a_worker_that_died_a_thousand_times_left_nothing_that_stops_the_forwarder(tmp_path: Path) -> None:
    for i in range(1, 1_200):
        os.close(segment_module.create(tmp_path, "scorer-0-x", i))
    spool = opened(tmp_path)
    spool.append(RECORD)
    assert forward(tmp_path) == 1
    assert len(segments(tmp_path)) == 1
    spool.close()


def test_a_slot_is_still_only_while_nothing_was_written_since_everything_was_taken(tmp_path: Path) -> None:
    folder = tmp_path / "0"
    spool, slot, seen = opened(folder, segment_bytes=2048), Slot(folder), 0
    assert not slot.still()
    record = LogRecord("id", b"{", b"{}", b"{}", "story", "parent").to_spool()
    for number in range(40):
        spool.append(record)
        assert slot.open()
        while not slot.still():
            _, records, numbers = slot.take()
            seen += len(records)
            if numbers or slot.finished:
                slot.acknowledged(max([slot.seq, *numbers]))
        assert seen == number + 1
    spool.close()


def test_a_slot_is_not_still_while_a_later_segment_waits(tmp_path: Path) -> None:
    """A killed worker's tail and its successor's segment, or a segment that was begun between two looks."""
    folder = tmp_path / "0"
    record = LogRecord("id", b"{", b"{}", b"{}", "story", "parent").to_spool()
    spool = opened(folder)
    spool.append(record)
    spool.close()
    successor = opened(folder)
    successor.append(record)
    slot = Slot(folder)
    seen = 0
    assert slot.open()
    while not slot.still():
        _, records, numbers = slot.take()
        seen += len(records)
        slot.acknowledged(max([slot.seq, *numbers]))
    assert seen == 2
    successor.close()


def test_records_that_nobody_forwards_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    backlog = Backlog(spool)
    monkeypatch.setattr(health, "_QUIET_S", 0.05)
    assert backlog.delay() == ""
    spool.append(RECORD)
    time.sleep(0.1)
    assert "records wait" in backlog.delay()
    assert forward(tmp_path) == 1
    assert backlog.delay() == ""
    spool.close()


def test_a_segment_that_grew_for_long_enough_is_sealed_and_an_empty_one_stays(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.turn(0)
    assert len(segments(tmp_path)) == 1
    spool.append(b"somebody's")
    spool.turn(3600)
    assert len(segments(tmp_path)) == 1
    spool.turn(0)
    spool.turn(0)
    assert len(segments(tmp_path)) == 2, "the forwarder deletes the first one"
    spool.append(b"another's")
    assert [payload for _, payload in everything(tmp_path)] == [b"somebody's", b"another's"]
    spool.close()
