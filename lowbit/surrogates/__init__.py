"""Surrogates: the derivative that stands in for the zero derivative of a rounding, and the function it belongs to."""
