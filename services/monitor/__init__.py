"""Is it still right: windows that merge, and alarms with a stated error rate."""
