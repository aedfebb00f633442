"""Residuals when parameters are compressed in other groups than before: cut into parameters, and joined anew.

DistributedDataParallel forms its buckets anew after the first backward pass, and a checkpoint may be loaded where
buckets are others; what is kept belongs to parameters. Only what is linear in the gradients moves: the history of a
compressor begins anew with a new group.
"""

import torch

from lowbit.compressors import GradientCompressor
from lowbit.distributed.layout import Group
from lowbit.feedback import Entry


def adopt(compressor: GradientCompressor, group: Group, known: dict[str, Group]) -> None:
    """Make an entry for a group of what is kept of its parameters; nothing where there is one.

    Args:
        compressor: whose memory is changed.
        group: that is compressed next.
        known: groups of several parameters in the memory, by name; changed.
    """
    entries = compressor.memory.entries
    if group.name in entries:
        return
    for name in [n for n, old in known.items() if old.sizes.keys() & group.sizes.keys()]:
        entries |= apart(compressor, entries.pop(name), known.pop(name))
    if len(group.parts) == 1:
        return
    known[group.name] = group
    found = {name: entries.pop(name) for name in group.sizes if name in entries}
    if found:
        first = next(iter(found.values()))
        for entry in found.values():
            entry.rescale(first.scale)
        joined = {}
        for buffer in compressor.memory.names:
            zeros = first.buffers[buffer].new_zeros
            joined[buffer] = torch.cat(
                [found[n].buffers[buffer] if n in found else zeros(size) for n, size in group.sizes.items()]
            )
        history = compressor.compressor.start(group.name).to(first.history.device)
        entries[group.name] = Entry(torch.Size([sum(group.sizes.values())]), first.scale, history, joined)


def apart(compressor: GradientCompressor, entry: Entry, group: Group) -> dict[str, Entry]:
    """Entries of a group's parameters, by name."""
    pieces = {b: tensor.split(list(group.sizes.values())) for b, tensor in entry.buffers.items()}
    return {
        name: Entry(
            torch.Size([size]),
            entry.scale,
            compressor.compressor.start(name).to(entry.history.device),
            {buffer: split[place].clone() for buffer, split in pieces.items()},
        )
        for place, (name, size) in enumerate(group.sizes.items())
    }
