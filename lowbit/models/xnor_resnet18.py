"""ResNet-18 for binary layers: every 3x3 convolution after the stem is a unit with a residual of its own.

    unit    y = conv(norm(x)) + shortcut(x)              sixteen of them; the rounding of its input belongs to conv
    head    logits = classifier(mean over pixels of relu(norm(x)))

With `activation: {name: uniform}` a unit is BN -> sign -> convolution. The stem, the 1x1 convolutions of the shortcuts
and the classifier stay in full precision (`full_precision` tells `convert`). The module is a sequence of parts, each
applied to what the one before it gives, so that a part's input can be computed once and kept.

**Differs from the paper**: XNOR-Net's order of normalisation and sign, but a residual per convolution as in Bi-Real
Net, since binary convolutions lose the real values that a longer residual would have to carry; no rectifier between
units; a stem for small images. Without rounding of activations the units are linear.

**Reference**: M. Rastegari, V. Ordonez, J. Redmon, A. Farhadi, XNOR-Net, 2016, arXiv 1603.05279; Z. Liu, B. Wu, W. Luo,
X. Yang, W. Liu, K.-T. Cheng, Bi-Real Net, 2018, arXiv 1808.00278.
"""

from collections import OrderedDict

from torch import Tensor, nn

from lowbit.models._base import ImageModel
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import Count, variant


class _Unit(nn.Module):
    """Normalisation, convolution, and what goes past both.

    Attributes:
        added: name of the layer whose output is a term of the unit's; the other terms do not depend on its weight.
    """

    added = "conv"

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels_in)
        self.conv = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.shortcut = nn.Identity()
        if stride != 1 or channels_in != channels:
            shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x)) + self.shortcut(x)


class _XnorResNet18(nn.Sequential):
    """Stem, sixteen units, head."""

    full_precision = ("*.shortcut.*",)

    def __init__(self, channels_in: int, classes: int, width: int):
        stem = nn.Sequential(nn.Conv2d(channels_in, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        parts: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
        before = width
        for number in range(1, 17):
            stage = (number - 1) // 4
            first_of_later_stage = stage > 0 and number % 4 == 1
            parts[f"unit{number}"] = _Unit(before, width << stage, 2 if first_of_later_stage else 1)
            before = width << stage
        parts["pool"] = nn.Sequential(
            nn.BatchNorm2d(before), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        parts["classifier"] = nn.Linear(before, classes)
        super().__init__(parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")


@variant
class XnorResNet18(ImageModel):
    """Residual network of 18 layers whose convolutions are meant to be binary.

    Args:
        width: channels of the first stage; the last has eight times as many. 8 and 16 are thin.
    """

    width: Count = 64

    def build(self, *, input_shape: tuple[int, int, int], classes: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised network; it has no attention, so the softmax is not used."""
        return _XnorResNet18(input_shape[0], classes, self.width)
