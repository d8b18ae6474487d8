"""A few at a time, whoever they are."""

import pytest

from services.kit.errors import Busy
from services.kit.turns import Turns


def test_one_caller_takes_no_more_than_theirs_and_all_no_more_than_there_is() -> None:
    turns = Turns("files", 3, 2)
    with turns.turn("a"), turns.turn("a"):
        with pytest.raises(Busy, match="2 files of a"), turns.turn("a"):
            pass
        with turns.turn("b"), pytest.raises(Busy, match="too many"), turns.turn("c"):
            pass
        with turns.turn("c"):
            pass
    with turns.turn("a"), turns.turn("a"):
        pass
