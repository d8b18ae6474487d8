"""The retrainer: makes a model right again from what was recorded, and proves that the candidate is better."""
