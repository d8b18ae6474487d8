"""What comes again in every period is compared with its like: rows of one part of it with those of earlier periods."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.monitoring import check_season, slots_of
from services.kit.errors import Invalid


@dataclass(frozen=True)
class Season:
    """A declared period, cut into slots in which little moves; without one there is a single slot."""

    period_s: float | None = None

    @property
    def slots(self) -> int:
        """Those of its period; 1 without one."""
        return slots_of(self.period_s)

    def turn(self, at_s: float) -> int:
        """The number of the slot that holds a moment, in seconds since the epoch, over all periods."""
        return 0 if self.period_s is None else int(at_s / self.period_s * self.slots // 1)

    def slot(self, at_s: float) -> int:
        """That number within the period."""
        return self.turn(at_s) % self.slots

    def passed_s(self, at_s: float) -> float:
        """Seconds since the slot began that holds a moment."""
        return 0.0 if self.period_s is None else at_s % (self.period_s / self.slots)

    def weights(self, at_s: float) -> NDArray[np.float64]:
        """How much each slot [slots] says of a moment: the two whose middles are nearest, in proportion."""
        found = np.zeros(self.slots)
        if self.period_s is None:
            found[0] = 1.0
            return found
        place = at_s / self.period_s * self.slots - 0.5
        later = place % 1
        found[int(place // 1) % self.slots] = 1 - later
        found[int(place // 1 + 1) % self.slots] = later
        return found


NONE = Season()


def check(season_s: float | None, window_s: float) -> None:
    """Raises Invalid where a window would hold more than a slot of the season."""
    try:
        check_season(season_s, window_s)
    except ValueError as error:
        raise Invalid(str(error), "season_s") from None
