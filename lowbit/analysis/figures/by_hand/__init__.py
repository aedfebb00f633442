"""Figures of runs made by hand; drawn by `python -m lowbit plot`."""
