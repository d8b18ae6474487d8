"""The endpoint's budget of false alarms, shared out: its dimensions together keep it (`DECISIONS.md` 18, ADR 38).

Labelled rows are no more than decided ones, and neither are explained ones. Alarms of performance come falsely once in
5 budgets of rows, of unusable values once in 20, of attributions once in 20; columns have the rest, seven tenths, of
which groups of segments take two where the schema declares some. Together they come no more often than once in a
budget.
Detectors that an operator chose have a fifth of that, by an estimate, and all others the rest (ADR 43).
"""

from collections.abc import Collection

_OF_PERFORMANCE, _OF_QUALITY, _OF_ATTRIBUTIONS, _OF_SEGMENTS = 5, 20, 20, 5
_OF_CHOSEN = 5


def of_each_chosen(budget_rows: int, chosen: Collection[str]) -> int:
    """Rows between two false alarms of each detector that an operator chose, over all its columns (ADR 43): together
    they have a fifth of the budget."""
    return budget_rows * _OF_CHOSEN * max(1, len(chosen))


def beside_chosen(budget_rows: int, chosen: Collection[str]) -> int:
    """The budget that all others share out: where some are chosen, four fifths of the false alarms."""
    return budget_rows * _OF_CHOSEN // (_OF_CHOSEN - 1) if chosen else budget_rows


def of_data(budget_rows: int, *, segmented: bool = False) -> int:
    """Rows between two false alarms about columns as wholes; `segmented`: there are groups that can be watched."""
    return budget_rows * 2 if segmented else budget_rows * 10 // 7


def of_segments(budget_rows: int) -> int:
    """Rows between two false alarms about columns within groups of segments."""
    return budget_rows * _OF_SEGMENTS


def of_quality(budget_rows: int) -> int:
    """Rows between two false alarms about unusable values."""
    return budget_rows * _OF_QUALITY


def of_attributions(budget_rows: int) -> int:
    """Explained rows between two false alarms about what decisions rest on."""
    return budget_rows * _OF_ATTRIBUTIONS


def of_performance(budget_rows: int) -> int:
    """Labelled rows between two false alarms about performance."""
    return budget_rows * _OF_PERFORMANCE
