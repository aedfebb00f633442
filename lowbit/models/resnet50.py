"""ResNet-50 for small images: torchvision's network with a 3x3 stem of stride 1 and without the first pooling.

With the usual width it has 23,520,842 parameters for CIFAR-10.

**Differs from the paper**: the stem; the stride of a downsampling block is in its 3x3 convolution (torchvision's, also
called v1.5).

**Reference**: K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, 2016, arXiv 1512.03385.
"""

from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from lowbit.models._base import ImageModel
from lowbit.models._cifar_stem import stem
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import Count, variant


@variant
class ResNet50(ImageModel):
    """Residual network of 50 layers with a stem for small images.

    Args:
        width_per_group: channels inside the bottlenecks of the first stage; 128 is the wide ResNet-50-2. The channels
            between blocks are 256 to 2,048 in any case.
    """

    width_per_group: Count = 64

    def build(self, *, input_shape: tuple[int, int, int], classes: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised ResNet-50; it has no attention, so the softmax is not used."""
        network = ResNet(Bottleneck, [3, 4, 6, 3], num_classes=classes, width_per_group=self.width_per_group)
        network.conv1 = stem(input_shape[0], 64)
        network.maxpool = nn.Identity()
        return network
