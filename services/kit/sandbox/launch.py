"""The launcher of a program: locks itself in, unpacks the program's package, then becomes the program.

Run by the kit as `python -P -S -m services.kit.sandbox.launch <descriptor>`. The descriptor closes as the program
begins; what comes out of it before is why it does not.
"""

import importlib
import os
import signal
import sys
from pathlib import Path

from . import libc, lockdown
from .package import unpacked
from .spec import MAX_ERROR, Kind, ProgramSpec
from .worker import Channel

# zipfile imports it late, when the interpreter's own files are out of reach.
importlib.import_module("encodings.cp437")


def main(fd: int) -> None:
    os.set_inheritable(fd, False)
    channel = Channel(fd)
    spec = ProgramSpec.from_json(channel.receive()[2])
    try:
        _launch(spec)
    except Exception as error:  # noqa: BLE001 - its parent explains it
        channel.send(Kind.ERROR, 0, f"{type(error).__name__}: {error}".encode(errors="replace")[:MAX_ERROR])


def _launch(spec: ProgramSpec) -> None:
    folder = Path(spec.tmp) / "package"
    folder.mkdir()
    if spec.uid is not None:
        os.chown(folder, spec.uid, spec.uid)
    lockdown.confine_program(spec, folder)
    unpacked(Path(spec.package), spec.digest, folder)
    os.chdir(folder)
    program = Path(spec.runtime or spec.command[0])
    if spec.runtime is None:
        program.chmod(0o700)
    launch = lockdown.seal_program(spec, os.open(program, os.O_PATH | os.O_CLOEXEC))
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, for itself
        signal.signal(ignored, signal.SIG_DFL)
    libc.become(launch, spec.command, spec.environment)


if __name__ == "__main__":
    main(int(sys.argv[1]))
