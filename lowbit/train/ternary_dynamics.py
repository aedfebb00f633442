"""How low-bit weights move: the fraction of zero codes, and how many codes change per step."""

from typing import Any

import torch
from torch import Tensor, nn

from lowbit.layers.convert import bit_layers


class TernaryDynamics:
    """Compares the codes of all low-bit layers with those of the last measurement.

    Attributes:
        codes: int8 codes by layer name at the last measurement; part of a checkpoint.
        step: of the last measurement.
    """

    def __init__(self, model: nn.Module):
        self.layers = {n: m for n, m in bit_layers(model).items() if m.weight_quantizer.bits < 8}
        self.codes: dict[str, Tensor] = {}
        self.step = 0

    @torch.no_grad()
    def measure(self, step: int) -> dict[str, Any]:
        """`zero_fraction`, and `flip_rate` per step since the last measurement; empty without low-bit weights."""
        if not self.layers:
            return {}
        codes = {n: layer.quantized_weight().codes.to(torch.int8) for n, layer in self.layers.items()}
        total = sum(c.numel() for c in codes.values())
        counts = [sum((c == 0).sum() for c in codes.values())]
        if self.codes and step > self.step:
            counts.append(sum((c != self.codes[n]).sum() for n, c in codes.items()))
        zeros, *flips = torch.stack(counts).tolist()
        result = {"zero_fraction": zeros / total}
        if flips:
            result["flip_rate"] = flips[0] / total / (step - self.step)
        self.codes, self.step = codes, step
        return result
