"""Figures of the softmax study: base 2 against base e, and what else could explain a difference."""
