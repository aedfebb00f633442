"""What every softmax owes, against formulas that know nothing of its natural scale."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.attention import SDPBackend, sdpa_kernel

from lowbit.softmaxes._base import ExponentialSoftmax

TEMPERATURES = {"ln2": math.log(2), "1/ln2": math.log2(math.e)}


def base_and_temperature(softmax: ExponentialSoftmax, name: str) -> tuple[float, float]:
    """What a spec means, read off its settings; a variant not listed here is taken at its own word."""
    temperature = TEMPERATURES.get(getattr(softmax, "temperature", None), getattr(softmax, "temperature", None))
    bases = {"base_e": math.e, "base2": 2.0, "base_b": getattr(softmax, "base", None)}
    return (bases[name], temperature) if name in bases else (math.e, softmax.effective_temperature)


def powers(logits: Tensor, base: float, temperature: float) -> Tensor:
    """base ** (logits / temperature), each base by its own function."""
    exponent = logits / temperature
    if base == 2.0:
        return torch.exp2(exponent)
    return torch.exp(exponent) if base == math.e else torch.pow(base, exponent)


def reference(logits: Tensor, base: float, temperature: float, dim: int = -1) -> Tensor:
    """Probabilities in float64 from the definition."""
    logits = logits.double()
    p = powers(logits - logits.amax(dim, keepdim=True), base, temperature)
    return p / p.sum(dim, keepdim=True)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Equal within a tolerance, absolute and relative, in dtype and shape too."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def some(*shape: int, seed: int = 0, spread: float = 3.0) -> Tensor:
    """Float64 Gaussians."""
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)


def check_scale(softmax: ExponentialSoftmax, base: float, temperature: float) -> None:
    """s = ln(b) / T, to the last digits, and its inverse."""
    assert type(softmax.scale) is float
    assert math.isclose(softmax.scale, math.log(base) / temperature, rel_tol=4e-16)
    assert math.isclose(softmax.effective_temperature, temperature / math.log(base), rel_tol=4e-16)


def check_probabilities(softmax: ExponentialSoftmax, base: float, temperature: float) -> None:
    """The definition along any dimension, shift invariance, huge logits, masked entries and rows."""
    z = some(4, 5, 6).transpose(0, 2)
    before = z.clone()
    for dim in (0, 1, 2, -1, -2):
        expected = reference(z, base, temperature, dim)
        close(softmax.probabilities(z, dim), expected)
        close(softmax.probabilities(z, dim).sum(dim), torch.ones_like(z.sum(dim)))
        close(softmax.log_probabilities(z, dim), expected.log())
    assert torch.equal(z, before), "the logits were changed"
    close(softmax.probabilities(z + 64.0), softmax.probabilities(z))
    for dtype in (torch.float32, torch.float64):
        huge = torch.tensor([[1e30, -1e30, 1e30, 0.0]], dtype=dtype)
        close(softmax.probabilities(huge), torch.tensor([[0.5, 0.0, 0.5, 0.0]], dtype=dtype))
    masked = z.masked_fill(some(6, 5, 4, seed=1) > 0, -math.inf)
    masked[..., 0] = z[..., 0]
    close(softmax.probabilities(masked), reference(masked, base, temperature))
    assert (softmax.probabilities(masked)[masked == -math.inf] == 0).all()
    rows = torch.full((2, 3), -math.inf)
    rows[1] = 0.0
    assert softmax.probabilities(rows)[0].isnan().all(), "a fully masked row is documented to give NaN"
    assert softmax.probabilities(rows)[1].isfinite().all()


def check_low_precision(softmax: ExponentialSoftmax, base: float, temperature: float) -> None:
    """Probabilities have the logits' dtype and one rounding; logarithms and losses are float32."""
    for dtype, steps in ((torch.float16, 1.0), (torch.bfloat16, 1.0), (torch.float32, 8.0)):
        z = some(16, 10, spread=1.0).to(dtype)
        expected, tolerance = reference(z, base, temperature), steps * torch.finfo(dtype).eps
        assert softmax.probabilities(z).dtype == dtype
        close(softmax.probabilities(z).double(), expected, tolerance)
        assert softmax.log_probabilities(z).dtype == torch.float32
        close(softmax.log_probabilities(z).double(), expected.log(), 2e-6)
        loss = softmax.cross_entropy(z, torch.arange(16) % 10, reduction="none")
        assert loss.dtype == torch.float32
        close(loss.double(), -expected.log()[torch.arange(16), torch.arange(16) % 10], 2e-6)


def check_gradients(softmax: ExponentialSoftmax, base: float, temperature: float) -> None:
    """First and second derivatives are numerically right, and equal s times the textbook ones."""
    z, target = some(3, 4, spread=1.0).requires_grad_(), torch.tensor([0, 3, 1])
    for function in (
        softmax.probabilities,
        softmax.log_probabilities,
        lambda x: softmax.cross_entropy(x, target, label_smoothing=0.1),
    ):
        assert gradcheck(function, z, raise_exception=False)
        assert gradgradcheck(function, z, raise_exception=False)
    s, p, upstream = math.log(base) / temperature, reference(z.detach(), base, temperature), some(3, 4, seed=2)
    (of_probabilities,) = torch.autograd.grad(softmax.probabilities(z), z, upstream)
    close(of_probabilities, s * p * (upstream - (p * upstream).sum(-1, keepdim=True)))
    (of_loss,) = torch.autograd.grad(softmax.cross_entropy(z, target, reduction="sum"), z)
    close(of_loss, s * (p - F.one_hot(target, 4)))


def check_cross_entropy(softmax: ExponentialSoftmax, base: float, temperature: float) -> None:
    """Nats of the definition under every reduction, with ignored targets, smoothing and soft targets."""
    z, target = some(6, 5), torch.tensor([0, 4, -100, 2, 2, -100])
    logs, counts = reference(z, base, temperature).log(), target != -100
    picked = logs[torch.arange(6), target.clamp(min=0)]
    for smoothing in (0.0, 0.3):
        each = -torch.where(counts, (1 - smoothing) * picked + smoothing * logs.mean(-1), 0.0)
        options = {"label_smoothing": smoothing}
        close(softmax.cross_entropy(z, target, reduction="none", **options), each)
        close(softmax.cross_entropy(z, target, reduction="sum", **options), each.sum())
        close(softmax.cross_entropy(z, target, **options), each.sum() / 4)
    other = target.masked_fill(~counts, 1)
    kept = softmax.cross_entropy(z, other, ignore_index=1, reduction="sum")
    close(kept, softmax.cross_entropy(z, target, reduction="sum"))
    soft = some(6, 5, seed=3).softmax(-1)
    close(softmax.cross_entropy(z, soft, reduction="none"), -(soft * logs).sum(-1))
    close(softmax.cross_entropy(torch.zeros(2, 10).double(), torch.tensor([0, 9])), torch.tensor(10.0).double().log())


def check_attention(softmax: ExponentialSoftmax, base: float, temperature: float) -> None:
    """Attention is softmax(Q K^T / sqrt(D) + mask) V of the definition, forward and backward, in every form."""
    boolean = some(2, 1, 5, 7, seed=4) > -1.0
    boolean[..., 0] = True
    boolean[0, 0, 3] = False
    bias = some(1, 4, 5, 7, seed=5)
    hidden = torch.zeros(5, 7, dtype=torch.float64).masked_fill(torch.ones(5, 7).tril(2) == 0, -math.inf)
    for heads, mask in itertools.product((4, 2, 1), (None, "causal", boolean, bias, hidden)):
        query = some(2, 5, 4, 3, seed=6).transpose(1, 2).requires_grad_()
        key, value = (some(2, 7, heads, d, seed=d).transpose(1, 2).requires_grad_() for d in (3, 6))
        score = query @ key.repeat_interleave(4 // heads, 1).transpose(-1, -2) / math.sqrt(3)
        alive = torch.ones(5, 1, dtype=torch.bool)
        if isinstance(mask, str):
            score = score.masked_fill(torch.ones(5, 7, dtype=torch.bool).triu(1), -math.inf)
        elif mask is boolean:
            alive = mask.any(-1, keepdim=True)
            score = score.masked_fill(~mask & alive, -math.inf)
        elif mask is not None:
            score = score + mask
        weights = reference(score, base, temperature) * alive
        expected = weights @ value.repeat_interleave(4 // heads, 1)
        given = {"causal": True} if isinstance(mask, str) else {"mask": mask}
        actual = softmax.attention(query, key, value, **given)
        close(actual, expected)
        upstream, inputs = some(*actual.shape, seed=7), (query, key, value)
        ours, theirs = (torch.autograd.grad(output, inputs, upstream) for output in (actual, expected))
        for our, their in zip(ours, theirs, strict=True):
            close(our, their)


def check_attention_gradients(softmax: ExponentialSoftmax) -> None:
    """First derivatives of the fused kernel and second ones of the composed kernel are numerically right."""
    inputs = tuple(some(1, 1, 3, 2, seed=i, spread=1.0).requires_grad_() for i in range(3))

    def causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return softmax.attention(query, key, value, causal=True)

    assert gradcheck(causal, inputs, raise_exception=False)
    with sdpa_kernel(SDPBackend.MATH):
        assert gradgradcheck(causal, inputs, raise_exception=False)
