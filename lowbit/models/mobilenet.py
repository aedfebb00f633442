"""MobileNetV2 for small images: torchvision's network whose first two strides are 1.

A stage widens its input sixfold, filters each channel by itself and narrows again, without a rectifier after that. With
width 1 it has 2,236,682 parameters for CIFAR-10.

**Differs from the paper**: stem and second stage have stride 1 (a 32x32 image ends as 4x4 instead of 1x1).

**Reference**: M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, MobileNetV2: Inverted Residuals and Linear
Bottlenecks, 2018, arXiv 1801.04381.
"""

from torch import nn
from torchvision.models.mobilenetv2 import MobileNetV2

from lowbit.models._base import ImageModel
from lowbit.models._cifar_stem import stem
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import OpenFraction, Positive, variant

_STAGES = (  # expansion, channels, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@variant
class MobileNet(ImageModel):
    """MobileNetV2 with strides for small images.

    Args:
        width_mult: factor on all channels, rounded to multiples of 8; below 1 it leaves the last 1,280 as they are.
        dropout: before the classifier.
    """

    width_mult: Positive = 1.0
    dropout: OpenFraction = 0.2

    def build(self, *, input_shape: tuple[int, int, int], classes: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised MobileNetV2; it has no attention, so the softmax is not used."""
        stages = [list(stage) for stage in _STAGES]
        network = MobileNetV2(classes, self.width_mult, inverted_residual_setting=stages, dropout=self.dropout)
        first = network.features[0]
        first[0] = stem(input_shape[0], first[0].out_channels)
        return network
