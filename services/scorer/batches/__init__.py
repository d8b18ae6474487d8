"""Batch scoring: a file in, a durable job in chunks, a file out."""
