"""Benchmarks: one file each, with `cases(quick)` that yields rows; `python -m lowbit benchmark` runs them."""
