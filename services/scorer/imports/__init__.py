"""Inferences of foreign runtimes: validated and said again as our own log."""
