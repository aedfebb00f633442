"""Quantizers: real tensors to few levels and back."""
