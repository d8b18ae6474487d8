"""Programs of any language in the sandbox: they answer lines, reach nothing, and end when they misbehave."""

import asyncio
import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.kit.runtimes import runtimes
from services.kit.sandbox import ProgramSandbox, SandboxDeadline, SandboxDied, SandboxError, lockdown
from services.kit.settings import Settings, faults
from services.kit.testing import eventually

from .programs import ECHO, GREETING, NODE, RUNTIMES, attacker, packed
from .test_sandbox import HOSTILE, names_a_refusal, program, scene

__all__ = ["scene"]


@asynccontextmanager
async def running(
    folder: Path, files: dict[str, str | bytes], *command: str, welcome: Callable[[bytes], None] = lambda _: None,
    digest: str | None = None, **bounds: Any,
) -> AsyncGenerator[ProgramSandbox]:  # fmt: skip
    """A program of a package, started."""
    sandbox = ProgramSandbox(
        command, runtime=RUNTIMES.get(command[0]), package=packed(folder, files), digest=digest, greeting=GREETING,
        welcome=welcome, **bounds,
    )  # fmt: skip
    try:
        await sandbox.start()
        yield sandbox
    finally:
        await sandbox.close()


def python(folder: Path, source: str, **more: Any) -> Any:
    """The same with a program in Python, which attacks best."""
    return running(folder, {"main.py": source}, "python", "-u", "main.py", **more)


NODE_ADDS = """
require('readline').createInterface({input: process.stdin}).on('line', line => {
  const asked = JSON.parse(line);
  process.stdout.write(JSON.stringify({id: asked.id, sum: (asked.x || []).reduce((a, b) => a + b, 0)}) + '\\n');
});
"""


async def test_a_program_in_javascript_answers_line_by_line(tmp_path: Path) -> None:
    async with running(tmp_path, {"adds.js": NODE_ADDS}, "node", "adds.js") as sandbox:
        for n in range(100):
            assert (
                await sandbox.call(f'{{"id":"{n}","x":[{n},1]}}'.encode()) == f'{{"id":"{n}","sum":{n + 1}}}'.encode()
            )


async def test_a_program_of_its_own_package_runs(tmp_path: Path) -> None:
    made = subprocess.run(
        ["cc", "-x", "c", "-", "-o", str(tmp_path / "cat")], check=False, capture_output=True, timeout=60,
        input=b"#include <unistd.h>\nint main(){char b[4096];int n;while((n=read(0,b,4096))>0)write(1,b,n);}",
    ) if shutil.which("cc") else None  # fmt: skip
    cat = tmp_path / "cat" if made and not made.returncode else Path(shutil.which("cat") or "")
    async with running(tmp_path, {"bin/cat": cat.read_bytes()}, "./bin/cat") as sandbox:
        assert await sandbox.call(b"a line") == b"a line"


async def test_long_lines_pass_both_ways(tmp_path: Path) -> None:
    async with python(tmp_path, ECHO) as sandbox:
        line = b"x" * 5_000_000
        assert await sandbox.call(line) == line


async def test_a_package_with_other_bytes_than_were_approved_does_not_run(tmp_path: Path) -> None:
    right = hashlib.sha256(packed(tmp_path, {"main.py": ECHO}).read_bytes()).hexdigest()
    async with python(tmp_path, ECHO, digest=right) as sandbox:
        assert await sandbox.call(b"a line") == b"a line"
    with pytest.raises(SandboxError, match="altered"):
        async with python(tmp_path, ECHO + "# another", digest=right):
            pass


async def test_a_file_that_is_not_there_or_no_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="FileNotFoundError"):
        async with running(tmp_path, {"a": b""}, "./b"):
            pass
    with pytest.raises(SandboxError, match="Exec format error"):
        async with running(tmp_path, {"a": b"no program"}, "./a"):
            pass


# What only a program could try: the first `execveat` made it, and its address space has no bound.
HARDER = {
    "become another program": "os.execv('/bin/true', ['true'])",
    "become a file of its package": "os.chmod('main.py', 0o755); os.execv('./main.py', ['main.py'])",
    "become the loader of another program by such a path":
        "argv = (ctypes.c_char_p * 3)(b'ld', b'/bin/true', None); "
        "loader = next(path for path in LOADERS if os.path.exists(path)).encode(); "
        "raw(322, 281, 257, ctypes.c_char_p(loader), argv, (ctypes.c_char_p * 1)(None), 0x1000)",
    "become another program by descriptor":
        "argv = (ctypes.c_char_p * 1)(None); fd = os.open('main.py', os.O_PATH); "
        "raw(322, 281, fd, ctypes.c_char_p(b''), argv, argv, 0x1000)",
    "become another program by a path beside the launcher's descriptor":
        "argv = (ctypes.c_char_p * 1)(None); raw(322, 281, 257, ctypes.c_char_p(b'/bin/true'), argv, argv, 0x1000)",
    "take the launcher's descriptor": "os.dup2(os.open('main.py', os.O_RDONLY), 257)",
    "share memory with nobody": "import mmap; mmap.mmap(-1, 4096)",
    "let a stack grow": "import mmap; mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100)",
    "take more memory than there is room for": "b'x' * (4 << 30)",
    "read the launcher's interpreter": "open('/proc/1/environ').read()",
}  # fmt: skip


@pytest.mark.parametrize("attack", [*HOSTILE, *HARDER])
async def test_a_hostile_program_fails(attack: str, scene: dict[str, str | int], tmp_path: Path) -> None:
    secret, here = Path(str(scene["secret"])), "."
    source = program((HOSTILE | HARDER)[attack], scene | {"here": here})
    async with python(tmp_path, attacker(f"import sys\nLOADERS = {lockdown.LOADERS}\n{source}")) as sandbox:
        said = (await sandbox.call(b"go")).decode()
        assert names_a_refusal(said) or said.startswith(("MemoryError", "OSError: [Errno 9]")), said
        assert await sandbox.call(b"again")
    assert secret.read_text() == "the issuer's key"
    os.kill(int(scene["victim"]), 0)


@pytest.mark.parametrize(
    ("attack", "refused"),
    [
        ("require('fs').readFileSync('/etc/shadow')", "EACCES"),
        ("require('child_process').execFileSync('/bin/true')", "EPERM"),
        ("require('child_process').fork('main.js')", "EPERM"),
        ("process.kill(process.ppid, 'SIGKILL')", "EPERM"),
        ("require('net').connect(80, '127.0.0.1').on('error', tell)", "EPERM"),
        ("require('net').createServer().on('error', tell).listen(0)", "EPERM"),
        ("require('dgram').createSocket('udp4').on('error', tell).bind(0)", "EPERM"),
    ],
)
async def test_a_hostile_program_in_javascript_fails(attack: str, refused: str, tmp_path: Path) -> None:
    source = f"""
    const tell = error => process.stdout.write(String(error.code || error) + '\\n');
    let number = 0;
    require('readline').createInterface({{input: process.stdin}}).on('line', () => {{
      if (!number++) return process.stdout.write('welcome\\n');
      try {{ const made = {attack}; if (made && made.on) made.on('error', tell); }} catch (error) {{ tell(error); }}
    }});
    """
    async with running(tmp_path, {"main.js": source}, "node", "main.js") as sandbox:
        assert (await sandbox.call(b"go")).decode() == refused


ENDINGS = {
    "loops": ("while True: pass", SandboxDeadline, "took longer than 2 s and was killed"),
    "ends": ("import os; os._exit(3)", SandboxDied, "exit status 3"),
    "crashes": ("sys.stderr.write('why it failed'); os.abort()", SandboxDied, r"signal 6\) .*why it failed"),
    "floods": ("while True: print('x' * 1000)", SandboxDied, "without being asked"),
    "floods without a line":
        ("while True: sys.stdout.write('x' * 100000)", SandboxDied, "a line of more than|took longer"),
    "answers and goes on": ("print('one\\ntwo')", None, "without being asked"),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_program_that_misbehaves_ends_with_the_reason_and_is_started_again(ending: str, tmp_path: Path) -> None:
    code, error, reason = ENDINGS[ending]
    source = f"""
import os, sys
for number, line in enumerate(sys.stdin):
    if line.strip() == "harm":
        {code}
    print(line.strip(), flush=True)
"""
    async with python(tmp_path, source, deadline_s=2.0, load_s=20.0) as sandbox:
        if error is None:
            await sandbox.call(b"harm")
            await eventually(lambda: sandbox.restarts == 1)
        else:
            with pytest.raises(error, match=reason) as told:
                await _until_told(sandbox, ending)
            assert len(str(told.value)) < 5000
        await eventually(lambda: not sandbox.down)
        assert await sandbox.call(b"a line") == b"a line"


async def _until_told(sandbox: ProgramSandbox, ending: str) -> None:
    """Of a flood the first line is an answer."""
    for _ in range(2 if ending == "floods" else 1):
        await sandbox.call(b"harm")
        if ending == "floods":
            await eventually(lambda: bool(sandbox.down))
            raise SandboxDied(sandbox.down)


async def test_a_program_that_hoards_memory_is_ended(tmp_path: Path) -> None:
    source = ECHO.replace("print", "kept = bytearray(400 << 20); print")
    async with python(tmp_path, source.replace("import sys", "import sys\nsys.stdin.readline(); print(0, flush=True)"),
                      memory_mb=200) as sandbox:  # fmt: skip
        with suppress(SandboxDied):  # it may be found out before it has answered
            await sandbox.call(b"one")
        await eventually(lambda: "used more than 200 MB of memory" in sandbox.down)


async def test_ten_gigabytes_are_refused_at_once(tmp_path: Path) -> None:
    source = attacker("def main(_):\n    bytearray(10 << 30)")
    async with python(tmp_path, source) as sandbox:
        assert (await sandbox.call(b"go")).startswith(b"MemoryError")


async def test_a_fork_bomb_of_threads_is_bounded(tmp_path: Path) -> None:
    source = attacker("""
import threading
def main(_):
    made = 0
    try:
        while made < 5000:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            made += 1
    except RuntimeError:
        return f"stopped at {made}".encode()
    return b"not stopped"
""")
    async with python(tmp_path, source) as sandbox:
        assert (await sandbox.call(b"go")).startswith(b"stopped at ")


async def test_a_program_that_nobody_welcomes_does_not_start(tmp_path: Path) -> None:
    def refuse(line: bytes) -> None:
        raise SandboxError(f"is no answer: {line!r}")

    with pytest.raises(SandboxError, match="is no answer: b'loading"):
        async with python(tmp_path, "print('loading', flush=True)\n" + ECHO, welcome=refuse):
            pass


async def test_a_program_that_never_answers_its_greeting_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SandboxDeadline, match="took longer than 1 s"):
        async with python(tmp_path, "import time\ntime.sleep(60)", load_s=1.0):
            pass


async def test_the_answer_to_a_caller_who_went_away_is_nobody_else_s(tmp_path: Path) -> None:
    source = ECHO.replace(
        "for line in sys.stdin:", "import time\nfor line in sys.stdin:\n    time.sleep('slow' in line)"
    )
    async with python(tmp_path, source) as sandbox:
        slow = asyncio.create_task(sandbox.call(b"slow"))
        await asyncio.sleep(0.1)
        slow.cancel()
        assert await sandbox.call(b"quick") == b"quick"


async def test_nothing_of_the_platform_s_environment_reaches_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_SERVICE_DATABASE", "postgresql://secret")
    source = attacker("import os\ndef main(_):\n    return ' '.join(sorted(os.environ)).encode()")
    async with python(tmp_path, source) as sandbox:
        said = (await sandbox.call(b"go")).decode().split()
    assert "FAIRLEAD_SERVICE_DATABASE" not in said
    assert "PYTHONPATH" not in said
    assert "HOME" in said


def test_a_program_ends_with_its_parent(tmp_path: Path) -> None:
    package = packed(tmp_path, {"main.py": "import time\nprint(input(), flush=True)\ntime.sleep(600)"})
    parent = f"""
import asyncio
from pathlib import Path
from services.kit.sandbox import ProgramSandbox
from tests.kit.programs import RUNTIMES
async def main():
    sandbox = ProgramSandbox(["python", "-u", "main.py"], runtime=RUNTIMES["python"], package=Path({str(package)!r}),
                             digest=None, greeting=b"hello", welcome=lambda _: None)
    await sandbox.start()
    print(sandbox.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as running:
        assert running.stdout
        watched = os.pidfd_open(int(running.stdout.readline()))
        assert not select.select([watched], [], [], 0)[0], "it runs"
        running.send_signal(signal.SIGKILL)
        assert select.select([watched], [], [], 30)[0], "it has ended"
        os.close(watched)


def test_runtimes_are_named_by_the_operator() -> None:
    found = runtimes(f"node={NODE}, tool=/opt/tool/run:/etc/tool:/usr/share/tool")
    assert found["node"].readable == (NODE.resolve().parent.parent,)
    assert found["tool"].readable == (Path("/opt/tool"), Path("/etc/tool"), Path("/usr/share/tool"))
    assert runtimes("") == {}
    assert runtimes("x=/bin/x")["x"].readable != (Path("/"),), "the whole machine is no runtime's"
    for wrong in ("node", "node=bin/node", "a b=/x", "node=/x:y", "../node=/x"):
        with pytest.raises(ValueError, match="is not name="):
            runtimes(wrong)


def test_a_runtime_that_is_written_wrongly_keeps_a_service_from_starting_and_is_named() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(runtimes="node=bin/node")
    assert faults(refused.value) == [
        "FAIRLEAD_RUNTIMES=node=bin/node: node=bin/node is not name=/path/of/program or name=/path/of/program:/folder"
    ]
