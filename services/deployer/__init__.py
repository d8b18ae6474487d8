"""Deployer: what runs where."""
