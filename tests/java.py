"""Java compiled as an author would, by Eclipse's compiler: the embedded Java brings none."""

import subprocess
from pathlib import Path

from deploy.embedded import jvm

_LOCK = Path(__file__).with_name("ecj.lock.toml")


def compiled(source: Path, to: Path) -> None:
    """The classes of a source file, in a folder."""
    (compiler,) = jvm.jars(_LOCK).glob("ecj-*.jar")
    told = [jvm.java(), "-jar", compiler, "-source", "21", "-target", "21", "-d", to, source]
    subprocess.run(list(map(str, told)), check=True, capture_output=True, timeout=120)
