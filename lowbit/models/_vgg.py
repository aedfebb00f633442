"""What the VGG variants share: torchvision's convolutions with batch norm, and one linear layer as the head.

**Differs from the paper**: batch norm; one linear layer instead of three, which for CIFAR would hold nine tenths of the
parameters, as in the published comparisons of gradient compressors; pooling rounds up, so that images below 32x32 fit
too (for 32x32 it makes no difference); a width that can be set.

**Reference**: K. Simonyan, A. Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015,
arXiv 1409.1556; sizes for CIFAR-10 as in S. Li, T. Hoefler, Near-Optimal Sparse Allreduce, 2022, arXiv 2201.07598.
"""

from torch import nn
from torchvision.models.vgg import cfgs, make_layers


def vgg(configuration: str, channels_in: int, classes: int, width: int) -> nn.Sequential:
    """A VGG for small images.

    Args:
        configuration: letter of the paper's table 1: A has 11 layers, D has 16.
        channels_in: of an image.
        classes: number of classes.
        width: channels of the first convolution; the last have eight times as many.
    """
    widths = [v if v == "M" else v * width // 64 for v in cfgs[configuration]]
    features = make_layers(widths, batch_norm=True)
    features[0] = nn.Conv2d(channels_in, width, 3, padding=1)
    for module in features:
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, classes))
