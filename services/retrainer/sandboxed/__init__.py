"""What the retrainer runs in the sandbox, never in its own process: reading rows, recipes, models."""
