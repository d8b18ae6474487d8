"""Decisions of the governor, pure."""
