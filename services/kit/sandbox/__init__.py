"""Untrusted code runs here and reaches nothing: rlimits, Landlock, seccomp, its own user id, a deadline."""

from .errors import SandboxDeadline, SandboxDied, SandboxError, SandboxUnavailable
from .lockdown import layers, require
from .sandbox import Sandbox, run_sandboxed

__all__ = [
    "Sandbox", "SandboxDeadline", "SandboxDied", "SandboxError", "SandboxUnavailable",
    "layers", "require", "run_sandboxed",
]  # fmt: skip
