"""Two versions on the same requests: what a shadow would have decided beside what callers were told."""
