"""Figures of the compressor study: time, what is sent along recorded gradients, memory, ablations."""
