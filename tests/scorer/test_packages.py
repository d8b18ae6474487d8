"""Packages on a host: checked at each load, bounded, and shared by processes that fill them at once."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.kit.signing import digest_of
from services.scorer.packages import Packages
from services.scorer.runtimes.errors import CannotLoad

from .living import HERE
from .making import package


def kept(packages: Packages, data: bytes, age_s: int = 0) -> str:
    path = packages.path(digest_of(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1_000_000 - age_s, 1_000_000 - age_s))
    return digest_of(data)


UNPACK = """
import hashlib, pathlib, sys
from services.scorer.packages import Packages
for _ in range(20):
    model = Packages(pathlib.Path(sys.argv[1]), 1 << 20).unpack(sys.argv[2])
    assert hashlib.sha256(model.read()).hexdigest() == model.digest == sys.argv[3]
"""


def test_processes_that_unpack_at_once_all_have_the_whole_file(tmp_path: Path) -> None:
    digest = kept(Packages(tmp_path, 1 << 20), package(b"m" * 500_000))
    expected = digest_of(b"m" * 500_000).removeprefix("sha256:")
    told = [sys.executable, "-c", UNPACK, str(tmp_path), digest, expected]
    processes = [subprocess.Popen(told, cwd=HERE) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert [path.name for path in (tmp_path / "models").glob("*/*")] == ["model"]


def test_threads_that_unpack_at_once_all_have_the_whole_file(tmp_path: Path) -> None:
    packages = Packages(tmp_path, 1 << 24)
    digest = kept(packages, package(b"m" * 5_000_000))
    with ThreadPoolExecutor(8) as pool:
        models = [task.result() for task in [pool.submit(packages.unpack, digest) for _ in range(40)]]
    assert all(model.read() == b"m" * 5_000_000 for model in models)
    assert [path.name for path in (tmp_path / "models").glob("*/*")] == ["model"]


def test_a_model_file_is_checked_again_by_whoever_opens_it(tmp_path: Path) -> None:
    packages = Packages(tmp_path, 1 << 20)
    model = packages.unpack(kept(packages, package(b"model")))
    model.path.write_bytes(b"other")
    with pytest.raises(CannotLoad, match="altered"):
        model.read()


def test_what_nobody_needs_goes_oldest_first_and_only_beyond_the_bound(tmp_path: Path) -> None:
    packages = Packages(tmp_path, 1 << 20)
    digests = [kept(packages, package(os.urandom(10_000)), age_s) for age_s in (40, 30, 20, 10)]
    for digest in digests:
        packages.unpack(digest)
    assert packages.prune(digests[:1], 1 << 20) == []
    assert packages.prune(digests[:1], 25_000) == digests[1:3]
    assert [packages.whole(digest) for digest in digests] == [True, False, False, True]
    assert len(list((tmp_path / "models").iterdir())) == 2
    assert packages.prune([], 0) == [digests[0], digests[3]]


def test_what_a_kill_left_is_swept(tmp_path: Path) -> None:
    packages = Packages(tmp_path, 1 << 20)
    digest = kept(packages, package(b"model"))
    model = packages.unpack(digest)
    left = [packages.path(digest).with_name("x.zip.part"), model.path.with_name("model.12345")]
    for path in left:
        path.write_bytes(b"half")
    packages.sweep()
    assert not any(path.exists() for path in left) and model.read() == b"model" and packages.whole(digest)
