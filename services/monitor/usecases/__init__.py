"""What the monitor does: it counts, closes windows, judges, and says so."""
