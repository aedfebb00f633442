"""What an exchange keeps between steps, as tensors; and how it goes on with another number of ranks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lowbit.distributed.exchange import Exchange
from lowbit.distributed.regroup import apart
from lowbit.errors import UserError
from lowbit.feedback import Memory

_STEP, _PLACE, _KEPT = "step", "place", "kept/"


def state_of(exchange: Exchange, step: int) -> dict[str, Tensor]:
    """Step, place among the ranks that compress, and what is kept of each parameter.

    Raises:
        NonFiniteError: for a gradient that was refused and not reported yet; for `nonfinite="late"`.
    """
    exchange.compressor.check()
    memory = Memory(exchange.compressor.memory.names)
    for name, entry in exchange.compressor.memory.entries.items():
        group = exchange.known.get(name)
        memory.entries |= {name: entry} if group is None else apart(exchange.compressor, entry, group)
    place = [exchange.between.rank, exchange.between.world] if exchange.compresses else [-1, -1]
    return {_STEP: torch.tensor(step), _PLACE: torch.tensor(place)} | {
        _KEPT + key: tensor for key, tensor in memory.state_dict().items()
    }


def merged(exchange: Exchange, states: Sequence[Mapping[str, Tensor]]) -> int:
    """Give an exchange what this rank is to keep of states of all ranks, and return their step.

    Rank i of P takes the sum of what ranks i, i + P, ... of those that saved kept, and the history of compression of
    one of them.

    Raises:
        UserError: for states that do not belong together.
    """
    places = [tuple(state[_PLACE].tolist()) for state in states]
    kept = {place[0]: state for place, state in zip(places, states, strict=True) if place[0] >= 0}
    steps = {int(state[_STEP]) for state in states}
    worlds = {world for rank, world in places if rank >= 0}
    if len(steps) != 1 or len(worlds) != 1 or sorted(r for r, _ in places if r >= 0) != list(range(*worlds)):
        told = ", ".join(f"rank {r} of {w} at step {int(s[_STEP])}" for (r, w), s in zip(places, states, strict=True))
        raise UserError(f"states of {told or 'no rank'}: must be those of all ranks at one step; load all of one save")
    compressor = exchange.compressor
    compressor.clear()
    exchange.known.clear()
    if exchange.compresses:
        rank, world, before = exchange.between.rank, exchange.between.world, len(kept)
        compressor.load_state_dict(_memory_of(kept[rank % before]))
        if rank >= before:
            for entry in compressor.memory.entries.values():
                for tensor in entry.buffers.values():
                    tensor.zero_()
        for other in range(rank + world, before, world):
            _add(compressor.memory, _memory_of(kept[other]))
        compressor.check_histories()
    return steps.pop()


def _memory_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(_KEPT): tensor for key, tensor in state.items() if key.startswith(_KEPT)}


def _add(memory: Memory, state: dict[str, Tensor]) -> None:
    """Add buffers of another rank, in units of the same loss scale."""
    other = Memory(memory.names)
    other.load_state_dict(state)
    for name, entry in other.entries.items():
        own = memory.entries.setdefault(name, entry)
        if own is not entry:
            entry.rescale(own.scale)
            for buffer, tensor in entry.buffers.items():
                own.buffers[buffer].add_(tensor)
