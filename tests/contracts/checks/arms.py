"""Whole training runs under two softmaxes: which of them must agree, and how exactly."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from checks.layers import parts
from checks.models import batch, build
from lowbit.layers.bit_linear import BitLinear
from lowbit.layers.convert import ConversionRules, convert
from lowbit.models.gpt import GPT
from lowbit.quantizers._base import Quantizer
from lowbit.softmaxes._base import ExponentialSoftmax

LN2 = math.log(2)
Trajectory = tuple[list[float], dict[str, Tensor]]


def train_gpt(
    softmax: ExponentialSoftmax, conversion: ConversionRules, dtype: torch.dtype, steps: int = 50
) -> Trajectory:
    """Losses and final weights of a small decoder with the softmax in attention and loss."""
    recipe = GPT(depth=1, width=16, heads=2)
    model, (inputs, targets) = build(recipe, softmax), batch(recipe)
    convert(model, conversion)
    model.to(dtype).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = softmax.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict()


def check_same_run(one: Trajectory, other: Trajectory) -> None:
    """Bit-identical in every loss and every weight."""
    apart = [step for step, (a, b) in enumerate(zip(one[0], other[0], strict=True)) if a != b]
    assert not apart, f"losses part at step {apart[0]}"
    for name, tensor in one[1].items():
        assert torch.equal(tensor, other[1][name]), name


class AttentionNet(nn.Module):
    """One attention layer with separate projections, and a classifier with a bias; in float64."""

    def __init__(self, softmax: ExponentialSoftmax, weight: Quantizer, activation: Quantizer):
        super().__init__()
        self.softmax = softmax
        self.query, self.key, self.value = (BitLinear(8, 8, **parts(weight, activation)) for _ in range(3))
        self.classifier = BitLinear(8, 5, **parts(weight, activation))

    def forward(self, x: Tensor) -> Tensor:
        heads = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        return self.classifier(self.softmax.attention(*heads, causal=True).transpose(1, 2).flatten(-2))

    def makes_logits(self) -> set[str]:
        """The parameters whose factor is the factor of logits: of attention by the query, of the loss by the output."""
        return {f"{layer}.{part}" for layer in ("query", "classifier") for part in ("weight", "bias")}


@dataclass(frozen=True)
class Matched:
    """Factors, for the parameters that make logits, under which base 2 trains as base e does (L = ln 2).

    Args:
        weights: of the initial values.
        lr: of the learning rate.
        weight_decay: of the weight decay.
        eps: of Adam's epsilon.
    """

    weights: float = 1.0
    lr: float = 1.0
    weight_decay: float = 1.0
    eps: float = 1.0


THEOREM: Mapping[str, Matched] = {
    "sgd": Matched(weights=1 / LN2, lr=1 / LN2**2, weight_decay=LN2**2),
    "adamw": Matched(weights=1 / LN2, lr=1 / LN2, weight_decay=LN2, eps=LN2),
}
_OPTIMIZERS: Mapping[str, tuple[Callable, dict[str, float]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2, "eps": 1e-8, "weight_decay": 0.1}),
}


def train_attention_net(
    softmax: ExponentialSoftmax,
    optimizer: str,
    weight: Quantizer,
    activation: Quantizer,
    matched: Matched = Matched(),
    steps: int = 60,
) -> Tensor:
    """Losses of a run in float64 with the given factors."""
    torch.manual_seed(0)
    net = AttentionNet(softmax, weight, activation).double()
    x, y = torch.randn(16, 6, 8, dtype=torch.float64), torch.randint(5, (16, 6))
    kind, settings = _OPTIMIZERS[optimizer]
    special = {k: v * getattr(matched, k) for k, v in settings.items() if k in ("lr", "weight_decay", "eps")}
    logit_making = [p for n, p in net.named_parameters() if n in net.makes_logits()]
    others = [p for n, p in net.named_parameters() if n not in net.makes_logits()]
    with torch.no_grad():
        for parameter in logit_making:
            parameter.mul_(matched.weights)
    stepper = kind([{"params": others}, {"params": logit_making, **special}], **settings)
    losses = []
    for _ in range(steps):
        stepper.zero_grad()
        loss = softmax.cross_entropy(net(x).flatten(0, 1), y.flatten())
        loss.backward()
        stepper.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def difference(one: Tensor, other: Tensor) -> float:
    """Largest difference of two loss curves."""
    return (one - other).abs().max().item()
