"""Benchmarks: what the collector costs. `python -m bench`, as root, from the root of the repository."""
