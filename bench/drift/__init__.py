"""How soon a change shows, and how seldom nothing does: the monitor's detector beside others at the same budget."""
