"""What Prometheus reads of the recorder."""

from prometheus_client import Counter, Gauge, Histogram

_AGES = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200)
"""Seconds. Who was away for an hour is that far behind."""

INFERENCES = Counter("fairlead_recorder_inferences_total", "Distinct inferences recorded", ["endpoint"])
ROWS = Counter("fairlead_recorder_rows_total", "Rows recorded", ["endpoint"])
REPEATS = Counter("fairlead_recorder_repeats_total", "Repeated log records that were left out")
FILES = Counter("fairlead_recorder_files_total", "Parquet files written")
MERGED = Counter("fairlead_recorder_merged_files_total", "Small Parquet files that became part of larger ones")
ERASED = Counter("fairlead_recorder_erased_total", "Decisions that were erased because somebody asked for it")
OUTCOMES = Counter("fairlead_recorder_outcomes_total", "Outcomes, by what became of them", ["what"])
"""`reported` (new ones), `repeated` (known already), `withheld` (of another unit's inference), `invalid`; of those
that met their inference, `observed` or `refused`; of those that waited for it in vain, `expired`; and of the observed,
`written` to Parquet or `left out` of it: repeats, and what is about a decision that is forgotten."""
OUTCOMES_BEHIND = Histogram(
    "fairlead_recorder_outcomes_behind_seconds", "Age of an observed outcome when it is written", buckets=_AGES
)
UNMET = Gauge(
    "fairlead_recorder_outcomes_unmet",
    "Outcomes whose decision is not recorded: `waiting` for it, or `expired` and still kept to be seen",
    ["state"],
)
"""Counted every ten minutes."""
BEHIND = Histogram("fairlead_recorder_behind_seconds", "Age of an inference when it is recorded", buckets=_AGES)
