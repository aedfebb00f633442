"""Ranks of one node, and ranks of equal number in all nodes, as process groups of their own."""

from datetime import timedelta

import torch.distributed as dist

from lowbit.errors import SettingError
from lowbit.schemes import Wire


def nodes_of(world: int, ranks_per_node: int) -> int:
    """How many nodes there are.

    Raises:
        SettingError: when they would not be equally large.
    """
    if ranks_per_node < 1 or world % ranks_per_node:
        raise SettingError(f"{ranks_per_node} ranks in a node: must divide the number of ranks, {world}")
    return world // ranks_per_node


def wires(everyone: Wire, ranks_per_node: int, timeout: timedelta) -> tuple[Wire, Wire, Wire]:
    """To all ranks, to those of this one's number in other nodes, and to those of its own node.

    Args:
        everyone: all ranks, of which every so many consecutive ones are a node.
        ranks_per_node: 1 for one group of all ranks.
        timeout: of every message.

    Raises:
        SettingError: when nodes would not be equally large.
    """
    nodes_of(everyone.world, ranks_per_node)
    ranks = dist.get_process_group_ranks(everyone.group)
    first = everyone.rank - everyone.rank % ranks_per_node

    def joined(members: list[int]) -> Wire:
        return Wire(dist.new_group(members, timeout=timeout, use_local_synchronization=True))

    # Every rank takes part in equally many groups: PyTorch names groups by how many a process has made.
    inside = joined(ranks[first : first + ranks_per_node]) if ranks_per_node > 1 else Wire(None)
    between = joined(ranks[everyone.rank - first :: ranks_per_node])
    return (joined(ranks) if ranks_per_node > 1 else Wire(between.group)), between, inside


def close(*joined: Wire) -> None:
    """End the groups of some wires; for a process that goes on to others."""
    for group in {wire.group for wire in joined} - {None}:
        dist.destroy_process_group(group)
