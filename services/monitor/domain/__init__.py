"""What the monitor decides: pure arithmetic on counts."""
