"""Statistics of every parameter's gradient, before clipping."""

import json
import math
from pathlib import Path
from typing import TextIO

import torch
from torch import nn

from lowbit.train.events import Event, GradientsReady, RunStarted
from lowbit.train.listeners._base import Listener
from lowbit.train.listeners._lines import reopen


class GradientStatistics(Listener):
    """Writes one JSON line `step, norms, rms, zero_fraction` per observed step, each by parameter name.

    A number that is not finite is written as null. A resumed run cuts the file back to its checkpoint: the file of an
    interrupted run equals that of an uninterrupted one.

    Args:
        path: of the file.
        every: optimizer steps between observations.
    """

    wants_gradients = True

    def __init__(self, path: Path, every: int):
        self._path = path
        self._every = every
        self._stream: TextIO | None = None

    def handle(self, event: Event) -> None:
        match event:
            case RunStarted(first_step=first_step):
                self._stream = reopen(self._path, lambda line: line["step"] <= first_step)
            case GradientsReady(step=step, model=model) if step % self._every == 0:
                self._stream.write(json.dumps({"step": step, **_statistics(model)}, allow_nan=False) + "\n")

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


def _statistics(model: nn.Module) -> dict[str, dict[str, float | None]]:
    """Euclidean norm, root mean square and fraction of exact zeros of each gradient, read from the device once."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.numel()}
    if not gradients:
        return {"norms": {}, "rms": {}, "zero_fraction": {}}
    norms = torch.stack(torch._foreach_norm(list(gradients.values())))
    nonzeros = torch.stack([gradient.count_nonzero() for gradient in gradients.values()])
    norms, nonzeros = torch.stack([norms.double(), nonzeros.double()]).tolist()
    sizes = [gradient.numel() for gradient in gradients.values()]
    columns = {
        "norms": norms,
        "rms": [norm / math.sqrt(size) for norm, size in zip(norms, sizes, strict=True)],
        "zero_fraction": [(size - nonzero) / size for nonzero, size in zip(nonzeros, sizes, strict=True)],
    }
    return {key: dict(zip(gradients, map(_finite, values), strict=True)) for key, values in columns.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
