"""VGG-16 for small images: thirteen convolutions with batch norm, five poolings, one linear layer.

Width 64 is the network of the comparisons of gradient compressors: 14,728,266 parameters for CIFAR-10. What differs
from the paper stands in `_vgg.py`.

**Reference**: K. Simonyan, A. Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015,
arXiv 1409.1556.
"""

from torch import nn

from lowbit.models._base import ImageModel
from lowbit.models._vgg import vgg
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import Count, variant


@variant
class Vgg16(ImageModel):
    """VGG of 16 layers with batch norm and a linear head.

    Args:
        width: channels of the first convolution; the last have eight times as many.
    """

    width: Count = 64

    def build(self, *, input_shape: tuple[int, int, int], classes: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised VGG-16; it has no attention, so the softmax is not used."""
        return vgg("D", input_shape[0], classes, self.width)
