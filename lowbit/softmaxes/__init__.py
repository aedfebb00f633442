"""Softmaxes: logits to probabilities, for attention and for the loss alike."""
