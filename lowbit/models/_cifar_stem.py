"""The first convolution that torchvision's image networks get here: 3x3 with stride 1, since images are small."""

from torch import nn


def stem(channels_in: int, channels: int) -> nn.Conv2d:
    """A convolution without bias that keeps the image's size, initialised as torchvision initialises the others."""
    convolution = nn.Conv2d(channels_in, channels, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
