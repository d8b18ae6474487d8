"""How an endpoint's cohorts are shared out among its live versions: a change moves as few of them as it can."""

from collections.abc import Iterable

from contracts import COHORTS, Cohorts
from services.kit.errors import Invalid

_INEXACT = 1e-6


def share_of(weight: float) -> int:
    """How many cohorts a weight is. Raises Invalid naming `weight`."""
    count = round(weight * COHORTS)
    if not 0 < count < COHORTS:
        raise Invalid(f"weight: it lies between 0 and 1, at least 1/{COHORTS} away from both", "weight")
    if abs(weight * COHORTS - count) > _INEXACT:
        raise Invalid(f"weight: it is a multiple of 1/{COHORTS}, and {weight} is not", "weight")
    return count


def resized(mine: Iterable[Cohorts], others: Iterable[Cohorts], count: int) -> tuple[Cohorts, ...]:
    """So many cohorts, as many as possible of them those that one has; what it lacks comes from the champion's.

    Raises Invalid naming `weight` where the champion would be left with none.
    """
    has, taken = _each(mine), set(_each(others))
    free = [cohort for cohort in range(COHORTS) if cohort not in taken]
    if count >= len(free):
        raise Invalid(f"weight: less than {len(free) / COHORTS:g} is left beside the others", "weight")
    new = set(has)
    more = [cohort for cohort in free if cohort not in new]
    return _ranges(sorted([*has[:count], *more[: max(0, count - len(has))]]))


def _each(ranges: Iterable[Cohorts]) -> list[int]:
    return sorted(cohort for one in ranges for cohort in range(one.first, one.last + 1))


def _ranges(cohorts: list[int]) -> tuple[Cohorts, ...]:
    found: list[Cohorts] = []
    for cohort in cohorts:
        if found and found[-1].last == cohort - 1:
            found[-1] = Cohorts(first=found[-1].first, last=cohort)
        else:
            found.append(Cohorts(first=cohort, last=cohort))
    return tuple(found)
