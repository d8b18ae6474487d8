"""Requirements and locks: what is taken, what is refused, and that what was installed is what was locked."""

import asyncio
import hashlib
import os
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.kit.environments import Environments, check_complete, completed, is_lock, key, lock, pins, requirements
from services.kit.errors import Invalid, Unavailable

ONE = b"six==1.16.0 --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254\n"

TWO = b"six==1.15.0 --hash=sha256:8b74bedcbbbaca38ff6d7491d76f2b06b3592611af620f8426e82dddb04a5ced\n"
THREE = b"six==1.14.0 --hash=sha256:8f3cd2e254d8f793e7f3d6d9df77b92252b52637291d0f0da013c76ea2724b6c\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"-r other.txt", "line 1 .*options, paths and addresses"), (b"--index-url x", "options"),
        (b"./wheel.whl", "paths"), (b"../up", "paths"), (b"/etc/passwd", "paths"),
        (b"git+ssh://host/x", "addresses"), (b"x @ file:///etc/passwd", "names an address"),
        (b"numpy=1", "not a requirement"), (b"numpy\n\nnum py", "line 3"), (b"\xff", "not UTF-8"),
        (b"x\n" * 501, "more than 500 lines"), (b"#" * 1_048_577, "more than 1048576 bytes"),
    ],
)  # fmt: skip
def test_only_plain_requirements_are_taken(line: bytes, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as refused:
        requirements(line)
    assert refused.value.field == "requirements"


def test_comments_and_continued_lines_are_read_as_tools_write_them() -> None:
    text = b"# by a tool\nnumpy>=1.26  # arrays\nscipy==1.13.* ; python_version >= '3.9'\nriver[compat] \\\n  >=0.20\n"
    assert [str(each) for each in requirements(text)] == [
        "numpy>=1.26", 'scipy==1.13.*; python_version >= "3.9"', "river[compat]>=0.20",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ONE + b"numpy==1.26.4\n", "line 2 does not pin one version with its hashes"),
        (b"six>=1 --hash=sha256:" + b"0" * 64, "does not pin"),
        (b"six==1.* --hash=sha256:" + b"0" * 64, "does not pin"),
        (b"six==1.16.0 --hash=md5:" + b"0" * 32, "line 1"), (ONE + ONE.replace(b"six", b"SIX"), "pinned twice"),
    ],
)  # fmt: skip
def test_a_lock_pins_everything_once(text: bytes, reason: str) -> None:
    assert is_lock(text)
    with pytest.raises(Invalid, match=reason):
        pins(text)


def test_what_a_format_needs_is_added_unless_it_is_named_by_one_of_its_names() -> None:
    wanted = requirements(b"XGBoost==2.0\n")
    assert completed(wanted, ("numpy", "xgboost-cpu|xgboost")) == ("XGBoost==2.0", "numpy")
    check_complete(pins(ONE), ("six|seven",))
    with pytest.raises(Invalid, match="no seven"):
        check_complete(pins(ONE), ("seven",))


def test_the_same_lock_written_otherwise_is_the_same_environment() -> None:
    other = b"# six\nSix==1.16.0 \\\n    " + ONE.split()[1] + b"\n"
    assert key(pins(ONE)) == key(pins(other)) != key(pins(ONE.replace(b"8abb", b"9abb")))


async def test_what_fits_is_locked_with_its_hashes_and_what_fits_nothing_says_why() -> None:
    locked = await lock(["six<1.17"], timeout_s=60)
    assert [(pin.name, pin.version) for pin in pins(locked)] == [("six", "1.16.0")] and ONE.split()[1] in locked
    with pytest.raises(Invalid, match="six"):
        await lock(["six<1.17", "six>=1.17"], timeout_s=60)
    with pytest.raises(Invalid, match="no-such-thing-for-fairlead"):
        await lock(["no-such-thing-for-fairlead"], timeout_s=60)


async def test_an_index_that_is_away_is_no_fault_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    with pytest.raises(Unavailable, match="cannot be fetched"):
        await lock(["six"], timeout_s=60)


async def test_one_environment_is_built_once_for_all_who_want_it(tmp_path: Path) -> None:
    environments = Environments(tmp_path, most_bytes=10**8, most_bytes_all=10**9, timeout_s=60)
    assert environments.there(ONE) is None
    places = await asyncio.gather(*(environments.built(ONE) for _ in range(4)))
    assert set(places) == {environments.path(ONE)} and (places[0] / "six.py").exists()
    built = (places[0] / "six.py").stat().st_ctime_ns
    assert await environments.built(ONE) == environments.there(ONE) == places[0]
    assert (places[0] / "six.py").stat().st_ctime_ns == built


@pytest.mark.parametrize("harm", ["write", "delete", "add", "same size and dates"])
async def test_whatever_was_touched_is_not_used(harm: str, tmp_path: Path) -> None:
    environments = Environments(tmp_path, most_bytes=10**8, most_bytes_all=10**9, timeout_s=60)
    file = (await environments.built(ONE)) / "six.py"
    about, good = file.stat(), file.read_bytes()
    match harm:
        case "write":
            file.write_bytes(b"evil = 1")
        case "delete":
            file.unlink()
        case "add":
            (file.parent / "evil.py").write_bytes(b"")
        case _:
            file.write_bytes(good[:-1] + b"#")
            os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert environments.there(ONE) is None
    await environments.built(ONE)
    assert file.read_bytes() == good and not (file.parent / "evil.py").exists()


async def test_a_file_of_other_bytes_than_were_locked_is_not_installed(tmp_path: Path) -> None:
    environments = Environments(tmp_path, most_bytes=10**8, most_bytes_all=10**9, timeout_s=60)
    with pytest.raises(Invalid, match=r"(?i)hash"):
        await environments.built(ONE.replace(b"8abb", b"9abb"))
    assert not list(tmp_path.glob("*/site"))


def _wheel(folder: Path, files: Sequence[str]) -> bytes:
    """Lay a distribution called early with these files there; its lock."""
    about = "early-1.dist-info"
    path = folder / "early-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name in files:
            wheel.writestr(name, "")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: early\nVersion: 1\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in files))
    return f"early==1 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()


@pytest.mark.parametrize(
    ("file", "whose"),
    [
        ("dataclasses.py", "Python's own library"), ("json/__init__.py", "Python's own library"),
        ("struct.abi3.so", "Python's own library"), ("services/kit/errors.py", "the platform"),
        ("fairlead.pyc", "the platform"),
    ],
)  # fmt: skip
async def test_libraries_with_the_name_of_what_is_there_already_are_refused(
    file: str, whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = Environments(tmp_path / "all", most_bytes=10**8, most_bytes_all=10**9, timeout_s=60)
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path))
    locked = _wheel(tmp_path, ["early.py", file])
    with pytest.raises(Invalid, match=f"{file.partition('/')[0]} has the name of a module of {whose}"):
        await environments.built(locked)
    assert environments.there(locked) is None
    locked = _wheel(tmp_path, ["early.py", "structs.py", "json.libs/x.so", "services-1.txt"])
    assert (await environments.built(locked) / "structs.py").exists()


async def test_libraries_that_take_too_much_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    environments = Environments(tmp_path, most_bytes=1000, most_bytes_all=10**9, timeout_s=60)
    with pytest.raises(Invalid, match="more than 1000 bytes"):
        await environments.built(ONE)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


async def test_what_nobody_used_for_a_day_goes_when_another_needs_the_room(tmp_path: Path) -> None:
    environments, long_ago = (
        Environments(tmp_path, most_bytes=10**8, most_bytes_all=0, timeout_s=60),
        time.time() - 90_000,
    )
    used = (await environments.built(ONE)).parent / "used"
    os.utime(used, (long_ago, long_ago))
    environments.keep([ONE, TWO])
    await environments.built(TWO)
    assert environments.there(ONE) is not None, "it was said to be in use"
    os.utime(used, (long_ago, long_ago))
    await environments.built(THREE)
    assert environments.there(ONE) is None and environments.there(TWO) is not None
