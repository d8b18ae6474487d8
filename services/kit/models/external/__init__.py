"""Models that another server answers for, reached over a connection that an administrator approved."""

from .model import ExternalModel, RemoteRefused
from .spec import External

__all__ = ["External", "ExternalModel", "RemoteRefused"]
