"""What followed from the decisions of running bandits, counted once on each host."""

from .work import Rewards

__all__ = ["Rewards"]
