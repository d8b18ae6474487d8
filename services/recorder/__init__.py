"""Recorder: what was decided, and what followed."""
