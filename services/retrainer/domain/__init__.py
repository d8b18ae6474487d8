"""What the retrainer decides: which rows teach and which judge, who won, where a job stands. Pure."""

from .comparison import Answers, Comparison, Incomparable, compare, measure
from .jobs import Job, Kind, Reproduced, Retrained, State, Verdict, judge, reproduced, too_few
from .replay import Recorded, Replayed, replayed
from .split import held_out

__all__ = [
    "Answers", "Comparison", "Incomparable", "Job", "Kind", "Recorded", "Replayed", "Reproduced", "Retrained", "State",
    "Verdict", "compare", "held_out", "judge", "measure", "replayed", "reproduced", "too_few",
]  # fmt: skip
