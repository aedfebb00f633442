"""What compression leaves out of a gradient, kept for the next step: the rules, and the memory that holds their
tensors."""

from lowbit.feedback._base import Feedback
from lowbit.feedback._memory import Entry, Memory

__all__ = ["Entry", "Feedback", "Memory"]
