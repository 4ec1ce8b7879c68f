"""Benchmarks: ours and the peer in one run, as ratios; ``python -m benchmarks`` prints a table."""
