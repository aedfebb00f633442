"""ResNet-18 for small images: 3x3 stem without pooling, four stages of two basic blocks, real residuals.

**Differs from the paper**: the CIFAR stem (the ImageNet one shrinks a 32x32 image to 8x8 before the first block), and
a width that can be set, so that a thin one trains on a CPU. Width 64 is the usual network: 11,173,962 parameters for
CIFAR-10.

**Reference**: K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, 2016, arXiv 1512.03385.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from lowbit.models._base import ImageModel
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import Count, variant


class _BasicBlock(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride != 1 or channels_in != channels:
            shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class _ResNet18(nn.Module):
    def __init__(self, channels_in: int, classes: int, width: int):
        super().__init__()
        self.stem = nn.Conv2d(channels_in, width, 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
        strides = [1, 1, 2, 1, 2, 1, 2, 1]
        before = [width, *widths[:-1]]
        self.blocks = nn.Sequential(*(_BasicBlock(*b) for b in zip(before, widths, strides, strict=True)))
        self.classifier = nn.Linear(8 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)), inplace=True)
        return self.classifier(self.blocks(x).mean((2, 3)))


@variant
class ResNet18(ImageModel):
    """Residual network of 18 layers with a stem for small images.

    Args:
        width: channels of the first stage; the last has eight times as many.
    """

    width: Count = 64

    def build(self, *, input_shape: tuple[int, int, int], classes: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised ResNet-18; it has no attention, so the softmax is not used."""
        return _ResNet18(input_shape[0], classes, self.width)
