"""Residuals of several parameters in one tensor, so that one call of a kernel selects from all of them.

An entry of the memory stays what it is: its residual and its history are views of the joined tensors. Whatever changes
one changes the other, copies of entries (`state_dict`) are as large as without, and an entry that gets other tensors
(another state, another device) is joined anew, with their values.
"""

import torch
from torch import Tensor

from lowbit.feedback._memory import Entry
from lowbit.kernels.segments import Segments


class Joined:
    """Residuals and histories of some entries, one after another.

    Args:
        entries: with a residual each, of one dtype and device; changed.

    Attributes:
        residual: of all, flat.
        histories: of all, shape (entries, slots).
        parts: the residual of each entry, a view.
    """

    def __init__(self, entries: list[Entry]):
        self.residual = torch.cat([entry.buffers["residual"] for entry in entries])
        self.histories = torch.stack([entry.history for entry in entries])
        self.parts = self.residual.split([entry.shape.numel() for entry in entries])
        self._entries, self._rows = entries, self.histories.unbind()
        self._cut: Segments | None = None
        for entry, part, row in zip(entries, self.parts, self._rows, strict=True):
            entry.buffers["residual"], entry.history = part, row

    def holds(self, entries: list[Entry]) -> bool:
        """Whether it is of these entries, and they have no other tensors by now."""
        return len(entries) == len(self._entries) and all(
            entry is own and entry.buffers["residual"] is part and entry.history is row
            for entry, own, part, row in zip(entries, self._entries, self.parts, self._rows, strict=True)
        )

    def part(self) -> None:
        """Give every entry tensors of its own again."""
        for entry, part, row in zip(self._entries, self.parts, self._rows, strict=True):
            if entry.buffers["residual"] is part:
                entry.buffers["residual"] = part.clone()
            if entry.history is row:
                entry.history = row.clone()

    def segments(self, ks: tuple[int, ...], begins: tuple[int, ...] | None) -> Segments:
        """How the residual is cut; the last answer is kept, since a device gets a copy of it."""
        if self._cut is None or (self._cut.ks, self._cut.begins) != (ks, begins):
            sizes = tuple(part.numel() for part in self.parts)
            self._cut = Segments(sizes, ks, self.residual.device, begins)
        return self._cut


class Joins:
    """What is joined of a memory: each entry in one `Joined` at most."""

    def __init__(self) -> None:
        self._by_name: dict[str, Joined] = {}

    def of(self, entries: dict[str, Entry]) -> Joined:
        """Entries joined, in this order; others that were with them keep the old tensors until they are sent."""
        known, given = self._by_name.get(next(iter(entries))), list(entries.values())
        if known is None or not known.holds(given):
            known = Joined(given)
            self._by_name |= dict.fromkeys(entries, known)
        return known

    def part(self, name: str) -> None:
        """Take apart what is joined with an entry."""
        joined = self._by_name.get(name)
        if joined is not None:
            joined.part()
            self._by_name = {other: one for other, one in self._by_name.items() if one is not joined}

    def clear(self) -> None:
        """Forget all; for a memory that is empty, or has other entries."""
        self._by_name.clear()


def together(gradients: list[Tensor]) -> tuple[Tensor, tuple[int, ...] | None]:
    """One tensor that holds all of them, and where each begins there.

    Views of one storage, as the gradients of a bucket, are not copied.

    Args:
        gradients: contiguous, of one dimension, dtype and device.

    Returns:
        The tensor, and None for the begins where it is a copy of one after another.
    """
    first, storage = gradients[0], gradients[0].untyped_storage()
    if all(gradient.untyped_storage() is storage for gradient in gradients[1:]):
        begins = tuple(gradient.storage_offset() for gradient in gradients)
        end = max(begin + gradient.numel() for begin, gradient in zip(begins, gradients, strict=True))
        return first.as_strided((end,), (1,), 0), begins
    return torch.cat(gradients), None
