"""Batches that nobody hands in: at times, or when a file arrives."""
