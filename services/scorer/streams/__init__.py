"""Streaming scoring: requests from a topic, answers to another, exactly once."""
