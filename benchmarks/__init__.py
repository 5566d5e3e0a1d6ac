"""Benchmarks: ratios against a named rival, both sides in one run. `python -m benchmarks.NAME`."""
