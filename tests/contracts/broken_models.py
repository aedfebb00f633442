"""Models and layers that are wrong in ways that have been seen: each must fail its contract."""

import torch
import torch.nn.functional as F
from checks.models import attention_layers, build
from torch import Tensor, nn

from lowbit.layers.bit_conv2d import BitConv2d
from lowbit.layers.bit_linear import BitLinear
from lowbit.models._base import ImageModel
from lowbit.models.gpt import GPT
from lowbit.models.resnet18 import ResNet18
from lowbit.models.vit import ViT
from lowbit.quantizers._base import Quantizer
from lowbit.quantizers.binary_sign import BinarySign
from lowbit.softmaxes.base_e import BaseE

SMALL_GPT, SMALL_VIT = GPT(depth=1, width=16, heads=2), ViT(depth=1, width=16, heads=2)


class TokensTogether(BitLinear):
    """Quantizes all tokens with one scale."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation_quantizer.fake_quantize(self.norm(x), self.surrogate, (), self.blend)
        return F.linear(
            x, self.weight_quantizer.fake_quantize(self.weight, self.surrogate, (0,), self.blend), self.bias
        )


class WeightsOnly(BitLinear):
    """Forgets to quantize its input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(
            x, self.weight_quantizer.fake_quantize(self.weight, self.surrogate, (0,), self.blend), self.bias
        )


class StridedIsAlwaysBinary(BitConv2d):
    """Takes a weight quantizer, and has another where its stride is not 1."""

    def __init__(self, *args, weight_quantizer: Quantizer, **kwargs):
        super().__init__(*args, weight_quantizer=weight_quantizer, **kwargs)
        if self.stride != (1, 1):
            self.weight_quantizer = BinarySign(granularity="channel")


class DetachedInput(BitLinear):
    """Passes no gradient to the layer before."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach() + 0.0 * x)


def without_shortcuts() -> nn.Module:
    """A ResNet-18 whose blocks are two convolutions in a row."""

    class Plain(type(build(ResNet18(width=4)).blocks[0])):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))

    module = build(ResNet18(width=4))
    for block in module.blocks:
        block.__class__ = Plain
    return module


def forgetful() -> nn.Module:
    """A ResNet-18 whose batch norms have the momentum of another library: 0.9 of the newest batch."""
    module = build(ResNet18(width=4))
    module.blocks[3].norm2.momentum = 0.9
    return module


def silence_resnet(module: nn.Module) -> None:
    """Set what follows each branch's last convolution to zero."""
    for block in module.blocks:
        nn.init.zeros_(block.norm2.weight)
        nn.init.zeros_(block.norm2.bias)


def not_causal() -> nn.Module:
    """A decoder that sees the token it is to predict."""
    module = build(SMALL_GPT)
    for layer in attention_layers(module):
        layer.causal = False
    return module


def amnesic() -> nn.Module:
    """A decoder whose attention passes on nothing."""
    module = build(SMALL_GPT)
    nn.init.zeros_(module.blocks[0].attention.output.weight)
    return module


def blind() -> nn.Module:
    """A decoder that takes every token for the same."""
    module = build(SMALL_GPT)
    nn.init.zeros_(module.tokens.weight).requires_grad_(False)
    return module


def with_a_dead_parameter() -> nn.Module:
    """A decoder with a norm that nothing reads."""
    module = build(SMALL_GPT)
    module.forgotten = nn.RMSNorm(16)
    return module


class SeesTheBatch(nn.Module):
    """Normalises over the batch in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)).flatten(1)


class OwnSoftmax(ImageModel):
    """Takes a softmax and builds with base e."""

    def build(self, *, input_shape, classes, softmax):
        return SMALL_VIT.build(input_shape=input_shape, classes=classes, softmax=BaseE())


class StartDependsOnSoftmax(ImageModel):
    """Arms of one seed do not share their start."""

    def build(self, *, input_shape, classes, softmax):
        module = SMALL_VIT.build(input_shape=input_shape, classes=classes, softmax=softmax)
        with torch.no_grad():
            module.classifier.weight.mul_(softmax.scale)
        return module


def copies_instead_of_carrying() -> nn.Module:
    """A network that trades a layer for a copy behind the table's back when it is converted."""

    class Copying(nn.Sequential):
        def set_submodule(self, target, module, strict=False):
            module.weight = nn.Parameter(module.weight.detach().clone())
            super().set_submodule(target, module, strict)

    return Copying(nn.Linear(4, 4), nn.Linear(4, 2))


def claims_without_replacing() -> nn.Module:
    """A network that keeps its full-precision layer whatever is put in its place."""

    class Stubborn(nn.Sequential):
        def set_submodule(self, target, module, strict=False):
            """Nothing."""

    return Stubborn(nn.Linear(4, 4), nn.Linear(4, 2))
