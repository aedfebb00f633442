"""A linear layer whose weights and inputs are quantized in the forward pass.

    y = Q_w(W) Q_a(norm(x)) + bias

The latent weight W stays real and is what the optimizer moves. Norm, scales and rounding are computed in the latent
weight's precision also inside autocast.

**Reference**: The Era of 1-bit LLMs: Training Tips, Code and FAQ, 2024 (supplement to arXiv 2402.17764).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from lowbit.quantizers._base import Quantized, Quantizer
from lowbit.surrogates._base import Surrogate


class BitLinear(nn.Linear):
    """`nn.Linear` with fake-quantized weight and input, and an RMSNorm inside.

    Args:
        in_features: size of each input.
        out_features: size of each output.
        bias: whether a full-precision bias is added.
        weight_quantizer: of the latent weight; output features are its channels.
        activation_quantizer: of the normalised input; each vector along the last dimension is a token.
        surrogate: derivative used for both roundings.
        norm: whether the input passes an RMSNorm with a learned gain first.

    Shape:
        (*, in_features) -> (*, out_features)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        weight_quantizer: Quantizer,
        activation_quantizer: Quantizer,
        surrogate: Surrogate,
        bias: bool = True,
        norm: bool = True,
        device=None,
        dtype=None,
    ):
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        self.norm = nn.RMSNorm(in_features, eps=1e-5, device=device, dtype=dtype) if norm else nn.Identity()
        self.weight_quantizer = weight_quantizer
        self.activation_quantizer = activation_quantizer
        self.surrogate = surrogate
        self.blend = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        tokens = tuple(range(x.ndim - 1))
        x = self.norm(x.to(self.weight.dtype))
        x = self.activation_quantizer.when(self.training).fake_quantize(x, self.surrogate, tokens, self.blend)
        weight = self.weight_quantizer.when(self.training).fake_quantize(self.weight, self.surrogate, (0,), self.blend)
        return F.linear(x, weight, self.bias)

    def quantized_weight(self) -> Quantized:
        """Codes and scale of the weight as evaluation uses them."""
        return self.weight_quantizer.when(False).quantize(self.weight.detach(), (0,))
