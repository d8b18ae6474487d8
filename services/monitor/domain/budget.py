"""The endpoint's budget of false alarms, shared out: its dimensions together keep it (`DECISIONS.md` 18).

Labelled rows are no more than decided ones, so alarms of the data once in 5/4 budgets of rows and of the performance
once in 5 budgets come together no more often than once in a budget.
"""

_OF_PERFORMANCE = 5


def of_data(budget_rows: int) -> int:
    """Rows between two false alarms about columns."""
    return budget_rows * _OF_PERFORMANCE // (_OF_PERFORMANCE - 1)


def of_performance(budget_rows: int) -> int:
    """Labelled rows between two false alarms about performance."""
    return budget_rows * _OF_PERFORMANCE
