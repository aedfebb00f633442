"""A model whose gradients are given, so that what is applied and what is owed can be added up."""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lowbit.distributed import SparseHook

SHAPES = {"first": (40, 30), "bias": (7,), "second": (20, 25), "third": (10, 10, 3), "single": (1, 1)}
ROUNDING = {"rtol": 0, "atol": 2e-5}


class Given(nn.Module):
    """Parameters whose gradient is what forward is given; those that are not given are unused."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.zeros(shape)) for name, shape in SHAPES.items()})

    def forward(self, gradients: dict[str, Tensor]) -> Tensor:
        """Their inner product with the parameters."""
        return sum((self.weights[name] * gradient).sum() for name, gradient in gradients.items())


def drawn(rank: int, step: int, scale: float = 1.0) -> dict[str, Tensor]:
    """The gradient of a rank at a step."""
    draws = torch.Generator().manual_seed(1000 * rank + step)
    return {name: scale * torch.randn(shape, generator=draws) for name, shape in SHAPES.items()}


def small_buckets(**settings) -> DistributedDataParallel:
    """The model in buckets of one or two parameters, which are formed anew after the first backward pass."""
    return DistributedDataParallel(Given(), bucket_cap_mb=0.003, **settings)


def applied(model: DistributedDataParallel) -> dict[str, Tensor]:
    """Gradients, as they came out of backward; zeros where there are none."""
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.module.weights.items()}
    model.zero_grad()
    return found


def owed(hook: SparseHook) -> dict[str, Tensor]:
    """What this rank keeps, in units of the mean gradient."""
    state = hook.state_dict()
    found = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    for name in SHAPES:
        if (kept := state.get(f"kept/weights.{name}:residual")) is not None:
            found[name] = (kept.double() / float(state[f"kept/weights.{name}:scale"])).float().view(SHAPES[name])
    return found


def total(*parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sum, in float64."""
    return {name: torch.stack([part[name].double() for part in parts]).sum(0) for name in SHAPES}


def mean(*parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean, in float64."""
    return {name: tensor / len(parts) for name, tensor in total(*parts).items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    """Equality up to rounding."""
    for name in SHAPES:
        torch.testing.assert_close(found[name].double(), expected[name].double(), **(tolerance or ROUNDING), msg=name)


def assert_same_bits(results: list[dict[str, Tensor]]) -> None:
    """Equality on all ranks."""
    for name in SHAPES:
        assert all(torch.equal(found[name], results[0][name]) for found in results), name
