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
