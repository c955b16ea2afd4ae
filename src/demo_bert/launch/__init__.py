"""Starts workers, watches them, and sweeps up after them."""
