"""What followed from decisions: how it is counted, what the counts say of a model, and whether it became worse."""
