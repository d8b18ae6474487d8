"""What the deployer can do."""

from .deployer import Ask, Deployer
from .topics import EndpointTopics

__all__ = ["Ask", "Deployer", "EndpointTopics"]
