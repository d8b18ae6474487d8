"""What wrong decisions among several classes turn out to be, by what the labelled ones were.

The log has the score of the decision alone, so that the other classes' chances are not known; which class a wrong
decision belongs to follows the labelled wrong decisions of the same class, as long as these are like the rows at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .intervals import LEAST_ROWS, z_ever

Array = NDArray[Any]
Cells = Mapping[tuple[str, str], int]
"""Labelled rows by decision and truth."""


@dataclass(frozen=True)
class Confusion:
    """Shares [decisions, truths] of the wrong decisions, over the same names."""

    shares: Array
    rows: Array
    """[decisions] Labelled wrong ones."""

    @classmethod
    def of(cls, names: Sequence[str], cells: Cells) -> "Confusion | None":
        """None of too few labelled wrong decisions, or too few that name these classes.

        All wrong decisions together count as one row of each class: one without labels is as uncertain as a row.
        """
        wrong = np.zeros((len(names), len(names)))
        place = {name: at for at, name in enumerate(names)}
        for (decided, truth), rows in cells.items():
            if decided != truth and decided in place and truth in place:
                wrong[place[decided], place[truth]] += rows
        if wrong.sum() < LEAST_ROWS:
            return None
        usual = np.where(np.eye(len(names), dtype=bool), 0.0, wrong.sum(axis=0) + 1e-9)
        usual /= usual.sum(axis=1, keepdims=True)
        return cls((wrong + usual) / (wrong.sum(axis=1, keepdims=True) + 1), wrong.sum(axis=1))

    def error(self, wrong: Array, gradient: Array) -> float:
        """Of a figure of the truths' numbers with this gradient [truths], for so many wrong decisions [decisions]: from
        the chance of these rows, and from that of the labelled ones."""
        variance = self.shares @ gradient**2 - (self.shares @ gradient) ** 2
        of_rows = float(wrong @ variance)
        learned = float(wrong**2 @ (variance / (self.rows + 1)))
        seen = max(LEAST_ROWS, int(self.rows.sum()))
        return sqrt(z_ever(max(1, int(wrong.sum()))) ** 2 * of_rows + z_ever(seen) ** 2 * learned)
