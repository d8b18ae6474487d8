"""What lies outside: the file of checkpoints, and who is told of alerts."""

from .channels import Channels, Undelivered
from .checkpoints import CheckpointFile

__all__ = ["Channels", "CheckpointFile", "Undelivered"]
