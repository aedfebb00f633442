"""How what every rank sends of a gradient becomes the mean over ranks: one file a scheme.

A scheme is given few entries of a vector and a `Wire`, and adds the mean to a vector that is the same on all ranks
afterwards, bit by bit. What it could not apply goes back to one of the ranks, so that nothing is lost.
"""

from lowbit.schemes._base import Message, Scheme, dense_mean
from lowbit.schemes._wire import Wire, WireError

__all__ = ["Message", "Scheme", "Wire", "WireError", "dense_mean"]
