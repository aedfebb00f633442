"""What PyTorch's PowerSGD keeps between steps, by the names of parameters instead of the numbers of buckets.

`PowerSGDState` keeps the error and the matrices Q of bucket i under i. A checkpoint is loaded into a model whose
buckets are formed anew after its first step; what is kept is therefore cut into parameters and joined again whenever
the parameters of a bucket are others than before.
"""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState

_STEP, _ERROR, _Q = "step", "error/", "q/"


class PowerSgdMemory:
    """Errors and matrices of one rank, as PyTorch's hook finds them.

    Args:
        state: of the hook, with warm start and error feedback.
        names: of parameters, by `id`.
    """

    def __init__(self, state: PowerSGDState, names: Mapping[int, str]):
        self._state, self._names = state, names
        self._apart: dict[str, Tensor] = {}
        self._shapes: dict[int, dict[str, torch.Size]] = {}

    def arrange(self, bucket: dist.GradBucket) -> None:
        """Put what is kept of a bucket's parameters where the hook looks for it; nothing where it is there."""
        found = zip(bucket.parameters(), bucket.gradients(), strict=True)
        shapes = {self._names[id(parameter)]: gradient.shape for parameter, gradient in found}
        if list(self._shapes.get(bucket.index(), ())) == list(shapes):
            return
        if bucket.index() in self._shapes:  # the buckets before have all been exchanged
            self._apart, self._shapes = self._pieces(), {}
            for kept in (self._state.error_dict, self._state.p_memory_dict, self._state.q_memory_dict):
                kept.clear()
        self._shapes[bucket.index()] = shapes
        matrices = self._matrices(shapes)
        if all(_ERROR + name in self._apart for name in shapes):
            self._state.error_dict[bucket.index()] = torch.cat([self._apart[_ERROR + name] for name in shapes]).to(
                bucket.buffer()
            )
        if matrices and all(_Q + name in self._apart for name in matrices):
            rows = sum(rows for rows, _ in matrices.values())
            self._state.p_memory_dict[bucket.index()] = bucket.buffer().new_empty(rows)
            self._state.q_memory_dict[bucket.index()] = torch.cat([self._apart[_Q + name] for name in matrices]).to(
                bucket.buffer()
            )

    def state_dict(self) -> dict[str, Tensor]:
        """Steps, errors and matrices as tensors: of this rank."""
        return {_STEP: torch.tensor(self._state.iter), **self._pieces()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what this rank kept."""
        self._state.iter = int(state[_STEP])
        self._apart = {name: tensor for name, tensor in state.items() if name != _STEP}

    def _pieces(self) -> dict[str, Tensor]:
        """All that is kept, by parameter; entries of an error are in the order of its bucket."""
        pieces = dict(self._apart)
        for index, shapes in self._shapes.items():
            if (error := self._state.error_dict.get(index)) is not None:
                parts = error.split([shape.numel() for shape in shapes.values()])
                pieces |= {_ERROR + name: part.clone() for name, part in zip(shapes, parts, strict=True)}
            matrices = self._matrices(shapes)
            if matrices and (q := self._state.q_memory_dict.get(index)) is not None:
                parts = q.split([columns for _, columns in matrices.values()])
                pieces |= {_Q + name: part.clone() for name, part in zip(matrices, parts, strict=True)}
        return pieces

    def _matrices(self, shapes: Mapping[str, torch.Size]) -> dict[str, tuple[int, int]]:
        """Entries of P and Q of each parameter that the hook compresses, in its order: those of one shape in a row."""
        by_shape: dict[tuple[int, int], dict[str, tuple[int, int]]] = {}
        for name, shape in shapes.items():
            n, m = shape[0], shape.numel() // shape[0]
            rank = min(n, m, self._state.matrix_approximation_rank)
            if (n + m) * rank * self._state.min_compression_rate < n * m:
                by_shape.setdefault((n, m), {})[name] = (n * rank, m * rank)
        return {name: sizes for group in by_shape.values() for name, sizes in group.items()}
