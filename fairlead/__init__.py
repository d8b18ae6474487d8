"""Fairlead's Python client.

>>> from fairlead import Fairlead                                    # doctest: +SKIP
>>> fl = Fairlead()                                                  # doctest: +SKIP
>>> fl.score("credit", rows).predictions                             # doctest: +SKIP
"""

from .answers import (
    Approval,
    Batch,
    DeadLetter,
    Decision,
    Deployment,
    Drift,
    Endpoint,
    GroupLag,
    Model,
    ModelVersion,
    Page,
    Platform,
    Replay,
    Retraining,
    Scores,
    ServiceStatus,
    TopicState,
    UseCase,
    Verification,
)
from .attributions import AttributionDrift
from .client import AsyncFairlead, Fairlead
from .comparisons import Comparisons
from .errors import (
    Busy,
    Conflict,
    Failed,
    FairleadError,
    Forbidden,
    Invalid,
    Misconfigured,
    NotFound,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from .events import EventStream, Occurrence
from .levels import Service
from .rules import Rules
from .slices import SegmentDrift, Slices
from .trials import DryRun

__all__ = [
    "Approval",
    "AsyncFairlead",
    "AttributionDrift",
    "Batch",
    "Busy",
    "Comparisons",
    "Conflict",
    "DeadLetter",
    "Decision",
    "Deployment",
    "Drift",
    "DryRun",
    "Endpoint",
    "EventStream",
    "Failed",
    "Fairlead",
    "FairleadError",
    "Forbidden",
    "GroupLag",
    "Invalid",
    "Misconfigured",
    "Model",
    "ModelVersion",
    "NotFound",
    "Occurrence",
    "Page",
    "Platform",
    "Replay",
    "Retraining",
    "Rules",
    "Scores",
    "SegmentDrift",
    "Service",
    "ServiceStatus",
    "Slices",
    "TimedOut",
    "TopicState",
    "Unauthorized",
    "Unreachable",
    "UseCase",
    "Verification",
]  # fmt: skip
