"""Vision transformer: patch embedding, class token, learned positions, pre-norm blocks.

Presets have the widths and depths of DeiT: vit-ti 5,717,416, vit-s 22,050,664, vit-b 86,567,656 parameters for 224x224
images, patch 16, 1,000 classes.

**Reference**: A. Dosovitskiy et al., An Image is Worth 16x16 Words, 2021, arXiv 2010.11929; H. Touvron et al., Training
Data-Efficient Image Transformers, 2021, arXiv 2012.12877.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from lowbit.errors import SettingError
from lowbit.layers.attention import SelfAttention
from lowbit.models._base import ImageModel
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import Count, variant

_PRESETS = {"vit-ti": (12, 192, 3), "vit-s": (12, 384, 6), "vit-b": (12, 768, 12)}  # depth, width, heads


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp_ratio: int, softmax: ExponentialSoftmax):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, heads, softmax)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, mlp_ratio * width)
        self.contract = nn.Linear(mlp_ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.contract(nn.functional.gelu(self.expand(self.mlp_norm(x))))


class _ViT(nn.Module):
    def __init__(self, input_shape, classes, patch, depth, width, heads, mlp_ratio, softmax):
        super().__init__()
        channels, height, image_width = input_shape
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        positions = (height // patch) * (image_width // patch) + 1
        self.positions = nn.Parameter(torch.empty(1, positions, width))
        self.blocks = nn.Sequential(*(_Block(width, heads, mlp_ratio, softmax) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.classifier = nn.Linear(width, classes)
        self.absorbed_norms = {
            f"blocks.{i}.{norm}": (f"blocks.{i}.{fed}",)
            for i in range(depth)
            for norm, fed in (("attention_norm", "attention.qkv"), ("mlp_norm", "expand"))
        }
        for parameter in (self.class_token, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)  # (N, patches, width)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.classifier(self.norm(self.blocks(x))[:, 0])


@variant
class ViT(ImageModel):
    """Vision transformer; a preset sets what is left out.

    Args:
        preset: depth, width and heads of DeiT-Ti, -S or -B.
        patch: pixels along the side of a patch; divides the image's sides.
        depth: blocks; default from the preset.
        width: features of a token; default from the preset.
        heads: attention heads; divides the width; default from the preset.
        mlp_ratio: hidden features of the MLP over width.
    """

    preset: Literal["vit-ti", "vit-s", "vit-b"] = "vit-ti"
    patch: Count = 4
    depth: Count | None = None
    width: Count | None = None
    heads: Count | None = None
    mlp_ratio: Count = 4

    def build(self, *, input_shape: tuple[int, int, int], classes: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised vision transformer.

        Raises:
            SettingError: when the patch does not divide the image or the heads do not divide the width.
        """
        if input_shape[1] % self.patch or input_shape[2] % self.patch:
            raise SettingError(
                f"patch {self.patch} does not divide images of {input_shape[1]}x{input_shape[2]}; change model.patch"
            )
        preset = _PRESETS[self.preset]
        given = (self.depth, self.width, self.heads)
        depth, width, heads = (p if g is None else g for g, p in zip(given, preset, strict=True))
        return _ViT(input_shape, classes, self.patch, depth, width, heads, self.mlp_ratio, softmax)
