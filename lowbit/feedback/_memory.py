"""Tensors of feedback and the past of compressors, one entry for each parameter, by its name.

Names are the caller's: those of `named_parameters()` stay the same when buckets of gradients are rebuilt. A residual is
float32 whatever the gradient is, or float64 for a float64 gradient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lowbit.errors import UserError


@dataclass
class Entry:
    """What is kept for one parameter.

    Args:
        shape: of its gradient.
        scale: loss scale that the buffers are in units of.
        history: past of the compressor, float64; the first number is a threshold in units of the gradient, or 0.
        buffers: tensors of the feedback, by name, each of shape (N,).
    """

    shape: torch.Size
    scale: float
    history: Tensor
    buffers: dict[str, Tensor]

    def rescale(self, scale: float) -> None:
        """Go over to another loss scale: multiplies all that is in units of the gradient."""
        if scale != self.scale:
            for tensor in (*self.buffers.values(), self.history[:1]):
                tensor.mul_(scale / self.scale)
            self.scale = scale


class Memory:
    """Entries by name. Every instance has its own: nothing is shared between models or optimizers.

    Args:
        names: of the buffers of an entry.
    """

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self.entries: dict[str, Entry] = {}

    def of(self, name: str, gradient: Tensor, history: Tensor) -> Entry:
        """The entry of a parameter; zeros and the given history when there is none.

        Raises:
            UserError: when the parameter had another shape before.
        """
        entry = self.entries.get(name)
        if entry is None:
            dtype = torch.promote_types(gradient.dtype, torch.float32)
            zeros = {n: torch.zeros(gradient.numel(), dtype=dtype, device=gradient.device) for n in self.names}
            entry = self.entries[name] = Entry(gradient.shape, 1.0, history.to(gradient.device), zeros)
        if entry.shape != gradient.shape:
            raise UserError(
                f"{name}: gradient of shape {tuple(gradient.shape)}, but its residual has shape {tuple(entry.shape)}; "
                f"give every tensor a name of its own, or call clear({name!r}) first"
            )
        if entry.history.device != gradient.device:
            entry.history = entry.history.to(gradient.device)
            entry.buffers = {n: t.to(gradient.device) for n, t in entry.buffers.items()}
        return entry

    def clear(self, name: str | None = None) -> None:
        """Forget one parameter, or all."""
        if name is None:
            self.entries.clear()
        else:
            self.entries.pop(name, None)

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of everything, as tensors whose names begin with the parameter's."""
        state = {}
        for name, entry in self.entries.items():
            state[f"{name}:shape"] = torch.tensor(entry.shape, dtype=torch.int64)
            state[f"{name}:scale"] = torch.tensor(entry.scale, dtype=torch.float64)
            state[f"{name}:history"] = entry.history.clone()
            state |= {f"{name}:{key}": tensor.clone() for key, tensor in entry.buffers.items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put the state of `state_dict` in place of everything.

        Raises:
            UserError: when it holds other buffers than this feedback has.
        """
        found: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            name, _, part = key.rpartition(":")
            found.setdefault(name, {})[part] = tensor.clone()
        entries = {}
        for name, parts in found.items():
            if parts.keys() != {"shape", "scale", "history", *self.names}:
                given, wanted = ", ".join(sorted(parts)), ", ".join(sorted({"shape", "scale", "history", *self.names}))
                raise UserError(f"state of {name!r}: has {given}; must have {wanted}; load it where it was saved from")
            shape = torch.Size(parts.pop("shape").tolist())
            entries[name] = Entry(shape, float(parts.pop("scale")), parts.pop("history"), parts)
        self.entries = entries
