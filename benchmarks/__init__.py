"""Benchmarks: every number that the documentation promises, measured. `python -m benchmarks` lists them."""
