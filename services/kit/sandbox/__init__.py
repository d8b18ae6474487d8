"""Untrusted code runs here and reaches nothing: rlimits, Landlock, seccomp, its own user id, a deadline."""

from typing import TYPE_CHECKING, Any

from .errors import SandboxAway, SandboxDeadline, SandboxDied, SandboxError, SandboxUnavailable
from .lockdown import layers, require

if TYPE_CHECKING:
    from .program import ProgramSandbox
    from .sandbox import Sandbox, run_sandboxed

__all__ = [
    "ProgramSandbox", "Sandbox", "SandboxAway", "SandboxDeadline", "SandboxDied", "SandboxError", "SandboxUnavailable",
    "layers", "require", "run_sandboxed",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # The worker process imports this package too and must stay small: asyncio and telemetry are the parent's.
    if name in ("Sandbox", "run_sandboxed"):
        from . import sandbox

        return getattr(sandbox, name)
    if name == "ProgramSandbox":
        from .program import ProgramSandbox

        return ProgramSandbox
    raise AttributeError(name)
