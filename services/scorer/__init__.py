"""Inference in three modes through one data plane; every inference is logged."""
