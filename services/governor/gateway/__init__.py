"""What lies outside: the file of checkpoints, and who is told of alerts."""

from .channels import Channels
from .checkpoints import CheckpointFile
from .errors import Undelivered

__all__ = ["Channels", "CheckpointFile", "Undelivered"]
