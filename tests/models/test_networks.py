"""The networks themselves: published sizes, real residuals, presets, and errors that say what to change."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "contracts"))
from checks.layers import rules
from checks.models import VOCABULARY, attention_layers, batch, build, check_causal, check_residual

from lowbit.layers.convert import convert
from lowbit.models.gpt import GPT
from lowbit.models.resnet18 import ResNet18
from lowbit.models.vit import ViT
from lowbit.models.xnor_resnet18 import XnorResNet18
from lowbit.quantizers.binary_sign import BinarySign
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.ternary_absmean import TernaryAbsmean
from lowbit.quantizers.uniform import Uniform
from lowbit.softmaxes.base_e import BaseE


def parameters(recipe, **form) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in recipe.build(softmax=BaseE(), **form).parameters())


def test_sizes_are_the_published_ones():
    assert parameters(ResNet18(), input_shape=(3, 32, 32), classes=10) == 11_173_962
    for preset, published in (("vit-ti", 5_717_416), ("vit-s", 22_050_664), ("vit-b", 86_567_656)):
        recipe = ViT(preset=preset, patch=16)
        assert parameters(recipe, input_shape=(3, 224, 224), classes=1000) == published


def test_gpt_has_no_hidden_weights():
    depth, width, vocabulary, context = 3, 32, 100, 20
    block = 4 * width**2 + 2 * 4 * width**2 + 2 * width
    expected = depth * block + 2 * vocabulary * width + context * width + width
    assert parameters(GPT(depth=depth, width=width, heads=2), vocabulary=vocabulary, context=context) == expected


def silence_resnet(module: nn.Module) -> None:
    for block in module.blocks:
        nn.init.zeros_(block.norm2.weight)
        nn.init.zeros_(block.norm2.bias)


def silence_transformer(module: nn.Module) -> None:
    for block in module.blocks:
        for layer in (block.attention.output, block.contract):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)


@pytest.mark.parametrize(
    ("recipe", "silence"),
    [(ResNet18(width=4), silence_resnet), (GPT(depth=2, width=16, heads=2), silence_transformer)],
    ids=["resnet18", "gpt"],
)
def test_shortcuts_carry_the_input_past_silenced_branches(recipe, silence):
    check_residual(build(recipe), silence, batch(recipe)[0])


def test_identity_shortcuts_of_resnet_are_exact():
    module = build(ResNet18(width=4))
    silence_resnet(module)
    x = torch.rand(2, 4, 8, 8)
    identities = [b for b in module.blocks if isinstance(b.shortcut, nn.Identity)]
    assert len(identities) == 5
    assert torch.equal(module.blocks[0](x), x)


def test_resnet_halves_the_image_three_times():
    module, seen = build(ResNet18(width=4)), []
    for block in module.blocks:
        block.register_forward_hook(lambda m, i, o: seen.append(tuple(o.shape[1:])))
    module(torch.randn(1, 3, 32, 32))
    assert seen == [(4, 32, 32)] * 2 + [(8, 16, 16)] * 2 + [(16, 8, 8)] * 2 + [(32, 4, 4)] * 2


def test_low_bit_gpt_is_causal_too():
    recipe = GPT(depth=2, width=16, heads=2)
    module = build(recipe)
    convert(module, rules(TernaryAbsmean(), Int8Absmax()))
    check_causal(module, batch(recipe)[0], VOCABULARY)


def test_gpt_tells_positions_apart():
    module = build(GPT(depth=1, width=16, heads=2))
    out = module(torch.zeros(1, 8, dtype=torch.long))[0]
    assert len(out.unique(dim=0)) == 8


def test_gpt_takes_shorter_sequences():
    recipe = GPT(depth=1, width=16, heads=2)
    module, (inputs, _) = build(recipe), batch(recipe)
    torch.testing.assert_close(module(inputs[:, :3]), module(inputs)[:, :3])


def test_output_layer_of_gpt_is_its_own():
    module = build(GPT(depth=1, width=16, heads=2))
    assert module.classifier.weight is not module.tokens.weight
    assert module.classifier.bias is None


def test_residual_branches_of_gpt_start_smaller():
    for block in build(GPT(depth=8, width=64, heads=2)).blocks:
        for into_stream, before in ((block.attention.output, block.attention.qkv), (block.contract, block.expand)):
            spreads = [layer.weight.std() * layer.in_features**0.5 for layer in (into_stream, before)]
            assert (spreads[0] / spreads[1]).item() == pytest.approx((2 * 8) ** -0.5, rel=0.1)


def test_preset_gives_what_is_not_set():
    module = build(ViT())
    assert (len(module.blocks), module.norm.normalized_shape, module.blocks[0].attention.heads) == (12, (192,), 3)
    module = build(ViT(preset="vit-s", depth=1, width=24))
    assert (len(module.blocks), module.norm.normalized_shape, module.blocks[0].attention.heads) == (1, (24,), 6)
    assert module.blocks[0].expand.out_features == 96


def test_vit_reads_every_patch_and_knows_its_place():
    module = build(ViT(depth=1, width=16, heads=2))
    x = torch.randn(1, 3, 8, 8)
    for row in (0, 4):
        for column in (0, 4):
            changed = x.clone()
            changed[..., row : row + 4, column : column + 4] += 1.0
            assert not torch.allclose(module(changed), module(x))
    assert not torch.allclose(module(x.roll(4, -1)), module(x))


def test_vit_classifies_by_its_class_token():
    module = build(ViT(depth=1, width=16, heads=2))
    silence_transformer(module)
    alone = module.classifier(module.norm(module.class_token + module.positions[:, :1]))[:, 0]
    torch.testing.assert_close(module(torch.randn(1, 3, 8, 8)), alone)


def test_vit_takes_oblong_images_and_one_channel():
    module = ViT(depth=1, width=16, heads=2).build(input_shape=(1, 8, 16), classes=3, softmax=BaseE())
    assert module.positions.shape == (1, 2 * 4 + 1, 16)
    assert module(torch.randn(2, 1, 8, 16)).shape == (2, 3)


def test_only_the_decoder_is_causal():
    assert all(layer.causal for layer in attention_layers(build(GPT(depth=2, width=16, heads=2))))
    assert not any(layer.causal for layer in attention_layers(build(ViT(depth=2, width=16, heads=2))))


def test_wrong_patch_and_heads_say_what_to_change():
    with pytest.raises(ValueError, match=r"patch 3 does not divide images of 8x8; change model.patch"):
        build(ViT(patch=3))
    with pytest.raises(ValueError, match="width 16 must be a multiple of heads 3"):
        build(ViT(depth=1, width=16, heads=3))
    with pytest.raises(ValueError, match="width 10 must be a multiple of heads 4"):
        build(GPT(width=10))


@pytest.mark.parametrize(
    "settings", [{"depth": 0}, {"width": -1}, {"heads": 1.5}, {"mlp_ratio": 0}, {"preset": "vit-x"}]
)
def test_impossible_sizes_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=name):
        ViT(**settings)


def test_xnor_has_sixteen_binary_convolutions_of_the_notes_sizes_and_nothing_else():
    module = XnorResNet18(width=8).build(input_shape=(3, 32, 32), classes=10, softmax=BaseE())
    table = convert(module, rules(BinarySign(granularity="channel"), Uniform(levels=2)))
    reasons = {row.name: row.reason for row in table}
    assert [row.name for row in table if row.converted] == [f"unit{number}.conv" for number in range(1, 17)]
    assert {reasons[f"unit{number}.shortcut.0"] for number in (5, 9, 13)} == {"the model keeps it in full precision"}
    assert reasons["stem.0"] == reasons["classifier"] == "first or last layer"
    sizes = {n: tuple(module.get_submodule(f"unit{n}.conv").weight.shape) for n in (1, 8, 15)}
    assert sizes == {1: (8, 8, 3, 3), 8: (16, 16, 3, 3), 15: (64, 64, 3, 3)}


def test_every_xnor_convolution_sees_signs_and_has_a_residual_of_its_own():
    module = build(XnorResNet18(width=4))
    convert(module, rules(BinarySign(granularity="channel"), Uniform(levels=2)))
    seen = []
    for number in range(1, 17):
        layer = module.get_submodule(f"unit{number}.conv")
        conv_forward = layer._conv_forward
        layer._conv_forward = lambda x, *rest, inner=conv_forward: (seen.append(x.unique().tolist()), inner(x, *rest))[
            1
        ]
    inputs = batch(XnorResNet18(width=4))[0]
    module(inputs)
    assert len(seen) == 16
    assert all(set(values) <= {-1.0, 1.0} for values in seen)

    def silence(network):
        for number in range(1, 17):
            nn.init.zeros_(network.get_submodule(f"unit{number}.conv").weight)

    check_residual(build(XnorResNet18(width=4)), silence, inputs)
