"""A few at a time, whoever they are."""

from services.kit.turns import Turns
from tests.turning import check_turns


def test_one_caller_takes_no_more_than_theirs_and_all_no_more_than_there_is() -> None:
    check_turns(Turns("files", 3, 2).turn, "files")
