"""A cell of CSV as a number, or none: client, requests and batches read it alike."""

import re

MISSING_CELLS = frozenset({
    "", "NaN", "nan", "-NaN", "-nan", "NA", "N/A", "n/a", "NULL", "null", "#N/A", "#N/A N/A", "#NA", "1.#IND",
    "-1.#IND", "1.#QNAN", "-1.#QNAN",
})  # fmt: skip
"""What writers of CSV put for a value that is not there: what Arrow's reader takes for null."""
_NUMBER = re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|inf(inity)?)", re.IGNORECASE | re.ASCII)
_LONGEST = 400


def number_in(cell: str) -> float | int | None:
    """A cell's number, a whole one as such; None where it is missing. Raises ValueError for what is no number.

    Infinity is a number here: whoever reads the column refuses it by its name.
    """
    text = cell.strip(" \t")
    if text in MISSING_CELLS:
        return None
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return int(text) if len(text) <= 20 and text.lstrip("+-").isdigit() else float(text)
