"""Figures of the estimator study: which stand-in for the gradient of a rounded network points where the loss falls."""
