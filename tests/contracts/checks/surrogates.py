"""What every surrogate owes: to be the derivative of the function it states, and to be attached exactly."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import fields, replace
from io import StringIO

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from lowbit.quantizers._base import Quantizer
from lowbit.surrogates._base import Surrogate


@contextmanager
def _must_work(what: str) -> Iterator[None]:
    """An exception of any kind is a broken contract, not a broken test."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what} raises {type(error).__name__}: {error}") from error


def check_is_derivative(surrogate: Surrogate) -> None:
    """Central differences of the antiderivative, away from its kinks."""
    u, step = torch.linspace(-5.003, 5.001, 2001, dtype=torch.float64), 1e-5
    left, middle, right = (surrogate.antiderivative(u + shift) for shift in (-step, 0.0, step))
    smooth = ((right - middle) - (middle - left)).abs() < 1e-8
    assert smooth.double().mean() > 0.98
    numeric = (right - left) / (2 * step)
    torch.testing.assert_close(surrogate.surrogate_gradient(u)[smooth], numeric[smooth], rtol=1e-6, atol=1e-6)


def check_mass(surrogate: Surrogate) -> None:
    """The integral of the derivative, and the rise of the antiderivative, from one end to the other."""
    u = torch.linspace(-13, 13, 40_001, dtype=torch.float64).sinh()  # to 2e5, and close together around zero
    rise = 2 * surrogate.antiderivative(u[-1:]).item()
    if math.isinf(surrogate.mass):
        assert rise > 1e5, "the mass is finite"
        return
    integral = torch.trapezoid(surrogate.surrogate_gradient(u), u).item()
    assert integral == pytest.approx(surrogate.mass, rel=3e-3), "mass is not the integral of the derivative"
    assert rise == pytest.approx(surrogate.mass, rel=1e-12), "mass is not the rise of the antiderivative"


def check_normalized(surrogate: Surrogate) -> None:
    """Every surrogate of finite mass can have the mass of a sign, in the same shape."""
    if not hasattr(surrogate, "normalized"):
        assert surrogate.mass in (2.0, math.inf), "give it a setting `normalized`"
        return
    plain, normalized = replace(surrogate, normalized=False), replace(surrogate, normalized=True)
    assert normalized.mass == pytest.approx(2.0, rel=1e-15)
    check_mass(normalized)
    u = torch.linspace(-3, 3, 25, dtype=torch.float64)
    for one, other in (
        (plain.surrogate_gradient(u), normalized.surrogate_gradient(u)),
        (plain.antiderivative(u), normalized.antiderivative(u)),
    ):
        torch.testing.assert_close(other, one * (2.0 / plain.mass), rtol=1e-12, atol=0)


def check_symmetry(surrogate: Surrogate) -> None:
    """Even derivative and odd antiderivative, bit for bit, of the input's shape and dtype; finite, however far out."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        u = torch.linspace(-4, 4, 33, dtype=dtype).view(3, 11)
        before = u.clone()
        slope, risen = surrogate.surrogate_gradient(u), surrogate.antiderivative(u)
        assert torch.equal(u, before), "the input was changed"
        for result in (slope, risen):
            assert result.dtype == dtype
            assert result.shape == u.shape
            assert result.isfinite().all()
        assert torch.equal(surrogate.surrogate_gradient(-u), slope), "the derivative is not even"
        assert torch.equal(surrogate.antiderivative(-u), -risen), "the antiderivative is not odd"
        assert surrogate.surrogate_gradient(u.new_zeros(())) > 0
        far = torch.tensor([1e4, 6e4, math.inf], dtype=dtype)
        assert surrogate.surrogate_gradient(far).isfinite().all()
        assert surrogate.antiderivative(far[: 3 if surrogate.mass < math.inf else 2]).isfinite().all()


def check_low_precision(surrogate: Surrogate) -> None:
    """Computed in bfloat16 it is off by a few roundings of the largest value, but at a jump that rounding moves."""
    u, eps = torch.linspace(-3.03, 3.05, 200).bfloat16(), torch.finfo(torch.bfloat16).eps
    for function in (surrogate.surrogate_gradient, surrogate.antiderivative):
        below, exact, above = (function(u.double() * factor) for factor in (1 - eps, 1.0, 1 + eps))
        tolerance = 8 * eps * exact.abs().max()
        smooth = (above - below).abs() < tolerance
        assert smooth.double().mean() > 0.9
        assert (function(u).double() - exact)[smooth].abs().max() <= tolerance


def check_schedule(surrogate: Surrogate) -> None:
    """`at` refuses what is no fraction, does not add up, and does nothing without a schedule."""
    for wrong in (-0.01, 1.01, math.nan, math.inf):
        refusal = "none"
        try:
            surrogate.at(wrong)
        except ValueError as error:
            refusal = str(error)
        assert "[0, 1]" in refusal, f"at({wrong}): {refusal}"
    for progress in (0.0, 0.3, 1.0):
        moved = surrogate.at(progress)
        assert type(moved) is type(surrogate)
        assert surrogate.at(0.7).at(progress) == moved, "progress adds up"
        if not hasattr(surrogate, "progress"):
            assert moved is surrogate
        else:
            assert moved == replace(surrogate, progress=progress)


def slope(surrogate: Surrogate, value: Tensor, scale: Tensor) -> Tensor:
    """The derivative of a quantized value by the real one: of codes, or of the value's own function times the scale."""
    if surrogate.in_codes:
        return surrogate.surrogate_gradient(value / scale)
    return scale * surrogate.surrogate_gradient(value)


def check_zero_counts(surrogate: Surrogate) -> None:
    """A setting of 0, where that is allowed, is close to one of almost 0, and not to the default."""
    u = torch.linspace(-3.003, 3.001, 201, dtype=torch.float64)
    for field in fields(surrogate):
        try:
            zero, near = (replace(surrogate, **{field.name: value}) for value in (0.0, 1e-9))
        except ValueError:
            continue
        for one, other in (
            (zero.surrogate_gradient(u), near.surrogate_gradient(u)),
            (zero.antiderivative(u), near.antiderivative(u)),
        ):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6, msg=f"{field.name}: 0 is taken for another")


def check_attach(surrogate: Surrogate) -> None:
    """Forward is the quantized value itself; backward is gradient times its derivative, no more."""
    generator = torch.Generator().manual_seed(0)
    value, quantized, upstream = torch.randn(3, 6, 9, generator=generator, dtype=torch.float64)
    scale = torch.tensor([0.1, 0.5, 1.0, 1.5, 2.0, 9.0]).double().view(6, 1)
    given = (value, quantized, scale, upstream)
    *inputs, incoming = (t.clone() for t in given)
    for t in inputs:
        t.requires_grad_()
    attached = surrogate.attach(*inputs)
    assert all(torch.equal(t, original) for t, original in zip(inputs, given, strict=False)), "an input was changed"
    assert torch.equal(attached, quantized)
    assert attached.requires_grad, "no gradient comes through"
    for _ in range(2):
        with _must_work("backward"), redirect_stdout(StringIO()) as printed, redirect_stderr(printed):
            gradients = torch.autograd.grad(attached, inputs, incoming, allow_unused=True, retain_graph=True)
        assert not printed.getvalue(), "backward prints"
        of_value, of_quantized, of_scale = gradients
        assert of_value is not None, "no gradient comes through"
        assert torch.equal(incoming, upstream), "the incoming gradient was changed"
        assert torch.equal(of_value, upstream * slope(surrogate, value, scale))
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
    with _must_work("torch.func"):
        alone, together = grad(loss)(batch[0]), vmap(grad(loss))(batch)
    assert torch.equal(alone, expected[0])
    torch.testing.assert_close(together, torch.stack(expected), rtol=1e-14, atol=1e-300)
    for function in (surrogate.surrogate_gradient, surrogate.antiderivative):
        torch.testing.assert_close(vmap(function)(batch), function(batch), rtol=1e-14, atol=0)


def check_serves(surrogate: Surrogate, quantizer: Quantizer) -> None:
    """Forward: what the quantizer says, zeros included; backward: the derivative by its scale."""
    x = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0, :2] = torch.tensor([0.0, -0.0])
    q = quantizer.quantize(x, (0,))
    leaf = x.clone().requires_grad_()
    fake = quantizer.fake_quantize(leaf, surrogate, (0,))
    assert torch.equal(fake, q.dequantize())
    (of_x,) = torch.autograd.grad(fake.sum(), leaf)
    exact = quantizer.bits == 32
    assert torch.equal(of_x, torch.ones_like(x) if exact else slope(surrogate, x, q.scale))
