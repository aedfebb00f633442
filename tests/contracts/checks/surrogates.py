"""What every surrogate owes: to be the derivative of the function it names, and to be attached exactly."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from lowbit.surrogates._base import Surrogate

ANTIDERIVATIVES: dict[str, Callable[[Surrogate, Tensor], Tensor]] = {
    "identity": lambda surrogate, u: u,
    "window": lambda surrogate, u: u.clamp(-surrogate.width, surrogate.width),
}


def check_is_derivative(surrogate: Surrogate, antiderivative: Callable[[Surrogate, Tensor], Tensor]) -> None:
    """Central differences of the antiderivative, away from its kinks."""
    u, step = torch.linspace(-5.003, 5.001, 2001, dtype=torch.float64), 1e-5
    left, middle, right = (antiderivative(surrogate, u + shift) for shift in (-step, 0.0, step))
    smooth = ((right - middle) - (middle - left)).abs() < 1e-8
    assert smooth.double().mean() > 0.98
    numeric = (right - left) / (2 * step)
    torch.testing.assert_close(surrogate.surrogate_gradient(u)[smooth], numeric[smooth], rtol=1e-6, atol=1e-6)


def check_attach(surrogate: Surrogate) -> None:
    """Forward is the quantized value itself; backward is gradient times derivative at value / scale, no more."""
    generator = torch.Generator().manual_seed(0)
    value, quantized, upstream = torch.randn(3, 6, 9, generator=generator, dtype=torch.float64)
    scale = torch.tensor([0.1, 0.5, 1.0, 1.5, 2.0, 9.0]).double().view(6, 1)
    inputs = [t.clone().requires_grad_() for t in (value, quantized, scale)]
    attached = surrogate.attach(*inputs)
    assert torch.equal(attached, quantized)
    of_value, of_quantized, of_scale = torch.autograd.grad(attached, inputs, upstream, allow_unused=True)
    assert torch.equal(of_value, upstream * surrogate.surrogate_gradient(value / scale))
    assert of_quantized is None
    assert of_scale is None, "the scale carries gradient"


def check_functional_transforms(surrogate: Surrogate) -> None:
    """`torch.func.grad`, alone and under `vmap`, agrees with a loop over plain autograd."""

    def loss(x: Tensor) -> Tensor:
        scale = x.abs().mean()
        return (surrogate.attach(x, (x / scale).round() * scale, scale) ** 3).sum()

    batch = torch.randn(4, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = []
    for x in batch:
        leaf = x.clone().requires_grad_()
        expected.append(torch.autograd.grad(loss(leaf), leaf)[0])
    assert torch.equal(grad(loss)(batch[0]), expected[0])
    torch.testing.assert_close(vmap(grad(loss))(batch), torch.stack(expected), rtol=1e-15, atol=0)
