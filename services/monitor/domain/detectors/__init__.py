"""Detectors of change, one algorithm a file."""
