"""What the recorder does: it records, joins outcomes, answers, and freezes rows."""
