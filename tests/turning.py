"""What whoever gives turns promises, wherever they are taken."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from services.kit.errors import Busy


def check_turns(turn: Callable[[str], AbstractContextManager[object]], what: str) -> None:
    """Of three turns, one caller takes two at most, and each that ended is free again."""
    with turn("ann"), turn("ann"):
        with pytest.raises(Busy, match=f"2 {what} of ann"), turn("ann"):
            pass
        with turn("bob"), pytest.raises(Busy, match="too many"), turn("eve"):
            pass
        with turn("eve"):
            pass
    with turn("ann"), turn("ann"):
        pass
