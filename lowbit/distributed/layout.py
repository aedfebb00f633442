"""Where parameters lie in a flat vector of gradients, and which of them are compressed together."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """A parameter's place in a vector of gradients.

    Args:
        name: of the parameter.
        start: its first entry.
        numel: its entries.
    """

    name: str
    start: int
    numel: int

    def of(self, buffer: Tensor) -> Tensor:
        """Its entries, as a view."""
        return buffer[self.start : self.start + self.numel]


@dataclass(frozen=True)
class Group:
    """Parameters that are compressed as one vector.

    Args:
        parts: in ascending order of their places.
    """

    parts: tuple[Part, ...]

    @cached_property
    def name(self) -> str:
        """What its residual is kept under: the name of its parameter, or all names."""
        return "+".join(part.name for part in self.parts)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Entries of each parameter, in order."""
        return {part.name: part.numel for part in self.parts}

    def of(self, buffer: Tensor) -> Tensor:
        """Its entries in order: a view of a single part, otherwise a copy."""
        if len(self.parts) == 1:
            return self.parts[0].of(buffer)
        return torch.cat([part.of(buffer) for part in self.parts])

    def write(self, vector: Tensor, buffer: Tensor) -> None:
        """Put a vector of its entries into the buffer."""
        for part, piece in zip(self.parts, vector.split(list(self.sizes.values())), strict=True):
            part.of(buffer).copy_(piece)

    def places(self, indices: Tensor) -> Tensor:
        """Places in the buffer of indices into its vector."""
        if len(self.parts) == 1:
            return indices + self.parts[0].start
        return indices + self._shifts.to(indices)[torch.bucketize(indices, self._ends.to(indices), right=True)]

    def inside(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Which places in the buffer are among its parts, as a mask, and their indices into its vector."""
        begins = torch.tensor([part.start for part in self.parts], device=places.device)
        part = (torch.bucketize(places, begins, right=True) - 1).clamp_(min=0)
        indices = places - self._shifts.to(places)[part]
        mask = (places >= begins[part]) & (indices < self._ends.to(places)[part])
        return mask, indices[mask]

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor(list(self.sizes.values())).cumsum(0)

    @cached_property
    def _shifts(self) -> Tensor:
        """Place minus index, of each part."""
        return torch.tensor([part.start for part in self.parts]) - self._ends + torch.tensor(list(self.sizes.values()))


@dataclass(frozen=True)
class Layout:
    """A vector of gradients.

    Args:
        groups: what is compressed.
        dense: what is not.
    """

    groups: tuple[Group, ...]
    dense: tuple[Part, ...] = ()


def layout_of(bucket: dist.GradBucket, names: Mapping[int, str], granularity: Literal["layer", "bucket"]) -> Layout:
    """Where the gradients of a bucket lie; those of one dimension are not compressed.

    Args:
        bucket: of DistributedDataParallel.
        names: of parameters, by `id`.
        granularity: whether every other parameter is compressed on its own, or all as one vector.
    """
    parameters = bucket.parameters()
    origin = bucket.buffer().storage_offset()
    starts = [gradient.storage_offset() - origin for gradient in bucket.gradients()]
    parts = {
        Part(names[id(p)], start, p.numel()): p.dim() > 1
        for p, start in sorted(zip(parameters, starts, strict=True), key=lambda pair: pair[1])
    }
    sparse = tuple(part for part, matrix in parts.items() if matrix)
    groups = (sparse,) if granularity == "bucket" and sparse else ((part,) for part in sparse)
    return Layout(tuple(map(Group, groups)), tuple(part for part, matrix in parts.items() if not matrix))
