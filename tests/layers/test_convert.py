"""Conversion: what is replaced, what is left and why, and what becomes of the norms."""

import math
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "contracts"))
from checks.layers import check_converted, rules
from checks.models import batch, build

from lowbit.layers.bit_conv2d import BitConv2d
from lowbit.layers.bit_linear import BitLinear
from lowbit.layers.convert import bit_layers, convert, set_blend
from lowbit.models.gpt import GPT
from lowbit.models.resnet18 import ResNet18
from lowbit.models.vit import ViT
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.none import NoQuantizer
from lowbit.quantizers.ternary_absmean import TernaryAbsmean

TERNARY, INT8 = TernaryAbsmean(), Int8Absmax()
SMALL_GPT = GPT(depth=2, width=16, heads=2)


def reasons(table: list) -> dict[str, str]:
    return {row.name: row.reason for row in table}


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 2)
    )


def test_default_leaves_first_convolution_and_last_linear():
    table = check_converted(chain(), rules(TERNARY, INT8))
    assert [(r.name, r.converted, r.bits, r.reason) for r in table] == [
        ("0", False, 32.0, "first or last layer"),
        ("1", True, math.log2(3), ""),
        ("3", True, math.log2(3), ""),
        ("4", False, 32.0, "first or last layer"),
    ]


def test_patterns_choose_and_every_row_says_why():
    model = nn.ModuleDict(
        {"words": nn.Embedding(5, 4), "a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 2)}
    )
    table = check_converted(model, rules(TERNARY, include=("*[abw]*",), exclude=("b",)))
    assert reasons(table) == {
        "words": "embeddings are looked up, not multiplied",
        "a": "",
        "b": "excluded",
        "c": "not included",
    }
    everything = check_converted(chain(), rules(TERNARY, exclude=()))
    assert all(row.converted for row in everything)


@pytest.mark.parametrize("patterns", [{"include": ("blocks.*",)}, {"exclude": ("head",)}, {"include": ("1", "9")}])
def test_a_pattern_without_a_layer_is_refused_before_anything_changes(patterns):
    model = chain()
    with pytest.raises(ValueError, match=r"matches no layer; layers are: 0, 1, 3, 4"):
        convert(model, rules(TERNARY, **patterns))
    assert not bit_layers(model)


def test_no_quantizers_leave_the_model_alone():
    model = build(SMALL_GPT)
    inputs, _ = batch(SMALL_GPT)
    before = model(inputs)
    table = check_converted(model, rules(NoQuantizer()))
    assert {row.reason for row in table} == {"quantizers are none"}
    assert torch.equal(model(inputs), before)


def test_converting_twice_changes_nothing_and_says_so():
    model = build(SMALL_GPT)
    inputs, _ = batch(SMALL_GPT)
    first = check_converted(model, rules(TERNARY, INT8))
    layers, out = bit_layers(model), model(inputs)
    for again in (rules(TERNARY, INT8), rules(NoQuantizer())):
        second = check_converted(model, again)
        assert bit_layers(model) == layers
        assert torch.equal(model(inputs), out)
        for row in second:
            before = next(r for r in first if r.name == row.name)
            assert (row.converted, row.bits, row.parameters) == (before.converted, before.bits, before.parameters)
            assert row.reason == "is low-bit already" or not row.converted


def test_form_of_layers_is_carried_over():
    conv = nn.Conv2d(4, 6, (3, 1), 2, "valid", 2, 2, bias=False, padding_mode="circular", dtype=torch.float64)
    model = nn.Sequential(nn.Conv2d(4, 4, 1), conv, nn.Linear(3, 3, dtype=torch.bfloat16), nn.Linear(3, 3)).eval()
    conv.weight.requires_grad_(False)
    check_converted(model, rules(TERNARY))
    new = model[1]
    assert isinstance(new, BitConv2d)
    for name in ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "bias"):
        assert getattr(new, name) == getattr(conv, name), name
    assert not new.training
    assert not new.weight.requires_grad
    assert model[2].norm.weight.dtype == torch.bfloat16
    new.blend = 0.0
    x = torch.randn(1, 4, 9, 9, dtype=torch.float64)
    assert torch.equal(new(x), conv(x))


def test_a_layer_used_under_two_names_is_replaced_under_both():
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared), "c": nn.Linear(4, 2)})
    table = check_converted(model, rules(TERNARY))
    assert [row.name for row in table] == ["a", "c"]
    assert model["a"] is model["b"][0]
    assert isinstance(model["a"], BitLinear)


def test_tied_weights_stay_tied():
    model = nn.ModuleDict({"words": nn.Embedding(7, 4), "a": nn.Linear(4, 7, bias=False), "c": nn.Linear(4, 2)})
    model["a"].weight = model["words"].weight
    check_converted(model, rules(TERNARY))
    assert model["a"].weight is model["words"].weight
    assert len(list(model.parameters())) == 4


def test_multihead_attention_of_pytorch_is_not_claimed():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    table = check_converted(model, rules(TERNARY, exclude=()))
    assert "never calls it" in reasons(table)["self_attn.out_proj"]
    assert [row.name for row in table if row.converted] == ["linear1", "linear2"]


def test_a_norm_is_absorbed_with_its_gain_and_without_a_trace_at_blend_zero():
    model, (inputs, _) = build(SMALL_GPT).double(), batch(SMALL_GPT)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 2.0)
    before = model(inputs)
    table = check_converted(model, rules(TERNARY, INT8, include=("*.qkv", "*.expand")))
    absorbed = [row.name for row in table if "absorbed" in row.reason]
    assert absorbed == [f"blocks.{i}.{norm}" for i in range(2) for norm in ("attention_norm", "mlp_norm")]
    assert reasons(table)["blocks.1.mlp_norm"] == "norm absorbed by blocks.1.expand"
    assert not torch.allclose(model(inputs), before)
    set_blend(model, 0.0)
    assert torch.equal(model(inputs), before)


def test_a_norm_stays_when_a_layer_behind_it_is_left():
    model = build(SMALL_GPT)
    table = check_converted(model, rules(TERNARY, exclude=("classifier", "blocks.0.expand", "blocks.1.attention.qkv")))
    absorbed = [row.name for row in table if "absorbed" in row.reason]
    assert absorbed == ["blocks.0.attention_norm", "blocks.1.mlp_norm"]
    for kept in ("blocks.0.mlp_norm", "blocks.1.attention_norm", "norm"):
        assert isinstance(model.get_submodule(kept), nn.RMSNorm)


def test_norms_stay_when_bit_linear_has_none():
    model, (inputs, _) = build(SMALL_GPT), batch(SMALL_GPT)
    before = model(inputs)
    table = check_converted(model, rules(TERNARY, norm=False))
    assert not any("absorbed" in row.reason for row in table)
    set_blend(model, 0.0)
    assert torch.equal(model(inputs), before)


def test_norms_to_absorb_can_be_named():
    model = nn.ModuleDict({"norm": nn.RMSNorm(4), "a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 2)})
    model["norm"].weight.data.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    named = {"norm": ("a", "b")}
    check_converted(model, rules(TERNARY, absorbed_norms=named))
    assert isinstance(model["norm"], nn.Identity)
    assert model["a"].norm.weight.tolist() == model["b"].norm.weight.tolist() == [1, 2, 3, 4]
    assert model["a"].norm.weight is not model["b"].norm.weight


def test_a_norm_that_feeds_several_layers_stays_for_the_one_that_is_left():
    model = nn.ModuleDict({"norm": nn.RMSNorm(4), "a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    check_converted(model, rules(TERNARY, absorbed_norms={"norm": ("a", "b")}))
    assert isinstance(model["norm"], nn.RMSNorm)
    assert isinstance(model["a"], BitLinear)
    assert not isinstance(model["b"], BitLinear)


def test_every_declared_norm_of_the_models_exists_and_feeds_what_it_says():
    for recipe in (SMALL_GPT, ViT(depth=2, width=16, heads=2)):
        model, called = build(recipe), []
        names = {module: name for name, module in model.named_modules()}

        def note(module, given, out, names=names, called=called):
            called.append((names[module], given[0].data_ptr(), out.data_ptr()))

        for module in model.modules():
            module.register_forward_hook(note)
        model(batch(recipe)[0])
        for norm, fed in model.absorbed_norms.items():
            (out,) = (o for n, _, o in called if n == norm)
            takers = [n for n, i, _ in called if i == out and not model.get_submodule(n)._modules]
            assert tuple(takers) == fed, norm


@pytest.mark.parametrize(
    ("make", "channels", "left"),
    [
        (lambda: torchvision.models.resnet18(num_classes=10), 3, {"conv1", "fc"}),
        (lambda: torchvision.models.mobilenet_v2(num_classes=10), 3, {"features.0.0", "classifier.1"}),
        (lambda: ResNet18().build(input_shape=(3, 32, 32), classes=10, softmax=None), 3, {"stem", "classifier"}),
    ],
    ids=["torchvision-resnet18", "torchvision-mobilenet_v2", "resnet18"],
)
def test_whole_networks_convert_and_have_shapes_on_meta(make, channels, left):
    with torch.device("meta"):
        model = make()
        table = check_converted(model, rules(TernaryAbsmean(granularity="channel"), INT8))
        assert {row.name for row in table if not row.converted} == left
        assert model(torch.empty(2, channels, 64, 64)).shape == (2, 10)
        assert {p.device.type for p in model.parameters()} == {"meta"}


def test_a_depthwise_network_runs_forward_and_backward():
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v2(num_classes=4, width_mult=0.1)
    check_converted(model, rules(TernaryAbsmean(granularity="channel"), INT8))
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    for layer in bit_layers(model).values():
        assert layer.weight.grad.isfinite().all()
        assert set(layer.quantized_weight().codes.unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_converting_draws_no_weights_anew():
    model = build(SMALL_GPT)
    weights = {n: p.clone() for n, p in model.named_parameters() if "norm" not in n}
    check_converted(model, rules(TERNARY))
    for name, tensor in weights.items():
        assert torch.equal(model.get_parameter(name), tensor)
