"""What every quantizer owes, and what the definitions of the known ones say."""

import math

import torch
from torch import Tensor

from lowbit.quantizers._base import Quantizer
from lowbit.surrogates.identity import Identity

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SHAPES = ((), (7,), (3, 5), (4, 3, 2, 2))


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard Gaussians."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def kept_dims(x: Tensor) -> tuple[int, ...]:
    """The dimension that layers keep, where there is one beside it."""
    return (0,) if x.ndim > 1 else ()


def check_codes(quantizer: Quantizer) -> None:
    """Few integer levels, a positive scale, shape and dtype kept, the input left alone; zeros and NaN-free."""
    for dtype in DTYPES:
        for shape in SHAPES:
            for x in (gaussian(*shape, dtype=dtype), torch.zeros(shape, dtype=dtype)):
                before = x.clone()
                q = quantizer.quantize(x, kept_dims(x))
                assert torch.equal(x, before), "the input was changed"
                assert q.codes.shape == x.shape
                assert torch.broadcast_shapes(q.scale.shape, x.shape) == x.shape, "scale is broader than the tensor"
                assert q.codes.dtype == q.scale.dtype == q.dequantize().dtype == dtype
                assert (q.scale > 0).all()
                assert q.dequantize().isfinite().all()
                if quantizer.bits < 32:
                    assert torch.equal(q.codes, q.codes.round()), "codes are not integers"
    if quantizer.bits < 32:
        x = gaussian(2000, 4)
        levels = quantizer.quantize(torch.cat([x, -x]), (0,)).codes.unique()
        assert len(levels) <= round(2**quantizer.bits), f"{len(levels)} levels in {quantizer.bits} bits"
        assert torch.equal(levels, -levels.flip(0)), "codes are not symmetric"


def check_named_levels(quantizer: Quantizer) -> None:
    """Where it names its levels, those are the values that it gives, all of them and no other."""
    if hasattr(quantizer, "values"):
        x = torch.linspace(-2, 2, 401, dtype=torch.float64)
        levels = quantizer.quantize(x).dequantize().unique()
        torch.testing.assert_close(levels, torch.tensor(quantizer.values, dtype=torch.float64), rtol=0, atol=1e-15)


def check_each_kept_entry_is_alone(quantizer: Quantizer) -> None:
    """One scale per tensor, or per kept entry: then each is quantized as it would be without its neighbours."""
    x = gaussian(5, 4, 3) * torch.tensor([0.01, 1.0, 30.0, 2.0, 0.5]).double().view(5, 1, 1)
    granular = getattr(quantizer, "granularity", "tensor") != "tensor"
    own_scales = granular and getattr(quantizer, "scaled", True)
    for kept, shape, pieces in (((0,), (5, 1, 1), x.split(1)), ((-1,), (1, 1, 3), x.split(1, 2))):
        q = quantizer.quantize(x, kept)
        assert q.scale.shape == shape if own_scales else q.scale.numel() == 1
        if not granular:
            close(q.dequantize(), quantizer.quantize(x).dequantize())
            continue
        alone = [quantizer.quantize(piece) for piece in pieces]
        close(q.scale.expand(shape).flatten(), torch.stack([a.scale.flatten()[0] for a in alone]))
        assert torch.equal(q.codes, torch.cat([a.codes for a in alone], 0 if kept == (0,) else 2))
    tokens = quantizer.quantize(x, (0, 1))
    assert tokens.scale.shape == (5, 4, 1) if own_scales else tokens.scale.numel() == 1
    swapped = quantizer.quantize(x.transpose(0, 2), (2,))
    assert torch.equal(swapped.codes.transpose(0, 2), quantizer.quantize(x, (0,)).codes), "strides matter"


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal to rounding in float64."""
    torch.testing.assert_close(actual, expected, rtol=1e-14, atol=0)


def check_scale_equivariance(quantizer: Quantizer) -> None:
    """Q(c x) = c Q(x): the same codes (mirrored for negative c), the scale times |c|; exact for powers of two.

    Levels of a fixed range do not move: the same codes for inputs twice as far out, beyond the range.
    """
    x = gaussian(6, 9)
    if quantizer.fixed_range:
        outside = x.sign() * (1 + x.abs())
        assert torch.equal(quantizer.quantize(outside).dequantize(), outside.sign())
        assert torch.equal(quantizer.quantize(outside).scale, quantizer.quantize(x).scale)
        return
    once = quantizer.quantize(x, (0,))
    for factor in (2.0, 2.0**-6, -1.0, -8.0, math.log(2), -1 / 3):
        scaled = quantizer.quantize(factor * x, (0,))
        power = math.frexp(abs(factor))[0] == 0.5
        if quantizer.bits < 32:
            assert torch.equal(scaled.codes, math.copysign(1, factor) * once.codes)
            torch.testing.assert_close(scaled.scale, abs(factor) * once.scale, rtol=0 if power else 1e-15, atol=0)
        assert not power or torch.equal(scaled.dequantize(), factor * once.dequantize())


def check_codes_are_idempotent(quantizer: Quantizer) -> None:
    """What is quantized already keeps its codes."""
    once = quantizer.quantize(gaussian(6, 9), (0,))
    assert torch.equal(quantizer.quantize(once.dequantize(), (0,)).codes, once.codes)


def check_fake_quantize(quantizer: Quantizer) -> None:
    """Forward: exactly dequantize(quantize); backward: exactly the incoming gradient; blend goes from x to that."""
    for dtype in DTYPES:
        x = gaussian(5, 8, dtype=dtype).requires_grad_()
        full = quantizer.quantize(x.detach(), (0,)).dequantize()
        fake = quantizer.fake_quantize(x, Identity(), (0,))
        assert torch.equal(fake, full)
        assert fake.dtype == dtype
        upstream = gaussian(5, 8, seed=1, dtype=dtype)
        assert torch.equal(torch.autograd.grad(fake, x, upstream)[0], upstream), "the scale carries gradient"
        assert torch.equal(quantizer.fake_quantize(x, Identity(), (0,), blend=0.0), x)
        assert torch.equal(quantizer.fake_quantize(x, Identity(), (0,), blend=1.0), full)
    half = quantizer.fake_quantize(x, Identity(), (0,), blend=0.25)
    torch.testing.assert_close(half, x + 0.25 * (full - x))
    torch.testing.assert_close(torch.autograd.grad(half, x, upstream)[0], upstream)


def check_ternary(quantizer: Quantizer) -> None:
    """The worked example, ties to even, all zeros, and the share of zeros in Gaussian weights."""
    weight = torch.tensor([[0.8, -0.5, 1.2], [-1.5, 0.4, -0.9], [1.3, -0.7, 0.2]])  # sum of magnitudes 7.5
    q = quantizer.quantize(weight)
    assert q.codes.tolist() == [[1, -1, 1], [-1, 0, -1], [1, -1, 0]]
    assert math.isclose(q.scale.item(), 7.5 / 9, rel_tol=1e-6)
    ties = torch.tensor([0.5, -0.5, 1.5, -1.5, 0.5 + 2**-20, 0.5 - 2**-20, 1.0, 2.0])  # mean magnitude 1
    assert quantizer.quantize(ties).scale.item() == 1.0
    assert quantizer.quantize(ties).codes.tolist() == [0, 0, 1, -1, 1, 0, 1, 1]
    assert quantizer.quantize(torch.zeros(4)).codes.tolist() == [0, 0, 0, 0]
    assert math.isclose(quantizer.quantize(torch.zeros(4)).scale.item(), 1e-5, rel_tol=1e-6)
    zeros = (quantizer.quantize(gaussian(1000, 1000)).codes == 0).double().mean().item()
    assert abs(zeros - math.erf(math.sqrt(2 / math.pi) / 2 / math.sqrt(2))) < 0.005, zeros  # 31.0%


def check_int8(quantizer: Quantizer) -> None:
    """The largest magnitude of every token is 127, of either sign; halves go to even; a row of zeros stays zero."""
    tokens = torch.tensor(
        [[1.0, -0.5, 0.0], [-3.0, 1.5, 1e-9], [0.0, 0.0, 0.0], [2e-5, -1e-5, 0.0], [1e-6, -9e-6, 0.0]]
    )
    codes = [[127, -64, 0], [-127, 64, 0], [0, 0, 0], [127, -64, 0], [13, -114, 0]]  # the last is below the clamp
    assert quantizer.quantize(tokens, (0,)).codes.tolist() == codes
    for dtype in DTYPES:
        x = gaussian(300, 8, dtype=dtype)
        q, mirrored = quantizer.quantize(x, (0,)), quantizer.quantize(-x, (0,))
        at_max = q.codes.gather(1, x.abs().argmax(1, keepdim=True))
        assert (at_max.abs() == 127).all(), dtype
        assert torch.equal(mirrored.codes, -q.codes)
        assert (q.codes.abs() <= 127).all()
        eps = torch.finfo(dtype).eps
        assert ((q.dequantize() - x).abs() <= q.scale * (0.5 + 127 * 2 * eps)).all(), "off by more than half a step"


def check_binary(quantizer: Quantizer) -> None:
    """Codes -1 and 1 only; a zero, of either sign, is +1."""
    assert quantizer.quantize(torch.tensor([0.0, -0.0, 2.0, -2.0])).codes.tolist() == [1, 1, 1, -1]
    assert quantizer.quantize(gaussian(100)).codes.unique().tolist() == [-1, 1]
