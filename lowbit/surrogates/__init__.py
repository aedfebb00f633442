"""Surrogates: the derivative that stands in for the zero derivative of a rounding."""
