"""What Prometheus reads of the monitor."""

from prometheus_client import Counter, Gauge, Histogram

_AGES = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200)
"""Seconds. Who was away for an hour is that far behind."""
ROWS = Counter("fairlead_monitor_rows_total", "Distinct rows counted", ["endpoint"])
REPEATS = Counter("fairlead_monitor_repeats_total", "Repeated log records that were left out")
SHADOWS = Counter("fairlead_monitor_shadows_total", "Log records of shadows, which are in no window")
WINDOWS = Counter("fairlead_monitor_windows_total", "Windows closed or revised", ["endpoint", "what"])
LATE = Counter("fairlead_monitor_late_rows_total", "Rows that came after their window was closed", ["endpoint"])
BEHIND = Histogram("fairlead_monitor_behind_seconds", "Age of an inference when it is counted", buckets=_AGES)
CLOSING = Histogram("fairlead_monitor_closing_seconds", "From the end of a window to its report", buckets=_AGES)
STATISTIC = Gauge("fairlead_monitor_statistic", "Logarithm of the evidence of a change", ["endpoint"])
THRESHOLD = Gauge(
    "fairlead_monitor_threshold", "What the statistic must pass: the logarithm of the budget", ["endpoint"]
)
UNREAD = Gauge(
    "fairlead_monitor_unread_partitions", "Partitions of the inference log that stand still or were never read while "
    "others go on",
)  # fmt: skip
FOUND = Counter("fairlead_monitor_findings_total", "Alarms and notes", ["endpoint", "kind"])
RULES = Counter(
    "fairlead_monitor_rule_rows_total", "Rows of closed windows that kept or broke a business rule, or could not be "
    "evaluated (result: kept, broken, undecided)", ["endpoint", "rule", "result"],
)  # fmt: skip
LATENCY = Gauge("fairlead_monitor_latency_ms", "Latency in the last closed window", ["endpoint", "quantile"])
OUTCOMES = Counter(
    "fairlead_monitor_outcomes_total", "Outcomes counted, revised, repeated, or too old to count", ["result"]
)
ATTRIBUTED = Counter(
    "fairlead_monitor_attributions_total",
    "Decisions whose attributions were asked for, explained, explained but incomparable with the reference, "
    "could not be, or are not asked for as they cannot be",
    ["endpoint", "result"],
)
ATTRIBUTION_STATISTIC = Gauge(
    "fairlead_monitor_attribution_statistic", "Logarithm of the evidence that decisions rest on other columns",
    ["endpoint"],
)  # fmt: skip
ATTRIBUTION_THRESHOLD = Gauge(
    "fairlead_monitor_attribution_threshold", "What that must pass: the logarithm of its part of the budget",
    ["endpoint"],
)  # fmt: skip

_OF_A_VARIANT = ["endpoint", "version", "variant"]
PERFORMANCE = Gauge(
    "fairlead_monitor_performance", "Figures of decisions whose outcome is known, of the last 7 days (bound: value, or "
    "low and high of its 99 % interval; of: the class, or the KPI)", [*_OF_A_VARIANT, "figure", "of", "bound"],
)  # fmt: skip
ESTIMATED = Gauge(
    "fairlead_monitor_estimated_performance", "The same of all decisions, as their scores have it",
    [*_OF_A_VARIANT, "figure", "of", "bound"],
)  # fmt: skip
FAIRNESS = Gauge(
    "fairlead_monitor_fairness", "How groups of a protected attribute are treated, of the last 7 days (bound as above)",
    [*_OF_A_VARIANT, "attribute", "measure", "bound"],
)  # fmt: skip
AVAILABILITY = Gauge(
    "fairlead_monitor_availability", "Answered requests of those that were right, of the last day", ["endpoint"]
)
BUDGET_LEFT = Gauge(
    "fairlead_monitor_error_budget_left", "Part of the last day's error budget that is left; below 0: overspent",
    ["endpoint", "objective"],
)  # fmt: skip
COST = Gauge(
    "fairlead_monitor_cost_per_1000_inferences", "At the installation's prices, of the last day",
    ["endpoint", "currency"],
)  # fmt: skip
FIGURES = (PERFORMANCE, ESTIMATED, FAIRNESS, AVAILABILITY, BUDGET_LEFT, COST)
"""That `usecases/publishing.py` reads again and again."""
