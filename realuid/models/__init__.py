"""Matching models: posterior means on a path, from a network or in closed form."""
