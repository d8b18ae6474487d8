"""One file per kind of model; each turns arrays into arrays."""

from typing import Any, Protocol

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]


class Runtime(Protocol):
    """A model in this process: its format runs no foreign code. `predict` blocks, in one thread at a time."""

    def predict(self, inputs: Arrays) -> Arrays:
        """All outputs by name, a row for each row of the inputs. Raises ModelFailed over an input it does not take."""
        ...

    def stop(self) -> None:
        """End the call that is under way in another thread, which raises TookTooLong then, and all until `resume`."""
        ...

    def resume(self) -> None:
        """Take calls again: what was stopped has ended, or had before."""
        ...

    def close(self) -> None:
        """Give back what the model holds; nothing is asked of it any more."""
        ...


class Remote(Protocol):
    """A model in a process of its own, or on another machine, behind an await."""

    @property
    def calls(self) -> int:
        """How many calls of it may be under way; what waits beyond is joined."""
        ...

    @property
    def down(self) -> str:
        """Why it does not work as it should; empty while it does."""
        ...

    @property
    def away(self) -> str:
        """Why a call would be refused; empty where one would be tried."""
        ...

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time that the process has used, with those before it."""
        ...

    @property
    def rss(self) -> int:
        """Resident bytes of the process; 0 while it is away."""
        ...

    async def call(self, inputs: Arrays, params: bytes = b"") -> Arrays:
        """As `Runtime.predict`; `params`: what is set of it for this call. Raises Unavailable where its process is
        away."""
        ...

    def close(self) -> None:
        """End the process, soon."""
        ...
