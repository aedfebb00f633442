"""A 2-d convolution whose weights and inputs are quantized in the forward pass.

**Differs from the paper**: BitNet has no convolutions. The batch norm that follows a convolution does what the RMSNorm
inside BitLinear does, so there is none here; an image is the token that an activation scale belongs to.
"""

from torch import Tensor, nn

from lowbit.quantizers._base import Quantized, Quantizer
from lowbit.surrogates._base import Surrogate


class BitConv2d(nn.Conv2d):
    """`nn.Conv2d` with fake-quantized weight and input.

    Args:
        *args: as for `nn.Conv2d`.
        weight_quantizer: of the latent weight; output channels are its channels.
        activation_quantizer: of the input; each image is a token.
        surrogate: derivative used for both roundings.
        **kwargs: as for `nn.Conv2d`.

    Shape:
        (N, C, H, W) -> (N, C_out, H_out, W_out)
    """

    def __init__(
        self, *args, weight_quantizer: Quantizer, activation_quantizer: Quantizer, surrogate: Surrogate, **kwargs
    ):
        super().__init__(*args, **kwargs)
        self.weight_quantizer = weight_quantizer
        self.activation_quantizer = activation_quantizer
        self.surrogate = surrogate
        self.blend = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        images = (0,) if x.ndim == 4 else ()
        x = self.activation_quantizer.when(self.training).fake_quantize(
            x.to(self.weight.dtype), self.surrogate, images, self.blend
        )
        weight = self.weight_quantizer.when(self.training).fake_quantize(self.weight, self.surrogate, (0,), self.blend)
        return self._conv_forward(x, weight, self.bias)

    def quantized_weight(self) -> Quantized:
        """Codes and scale of the weight as evaluation uses them."""
        return self.weight_quantizer.when(False).quantize(self.weight.detach(), (0,))
