"""The demo: one journey of a model through the platform, on real census data."""
