"""Networks of the compression field: published sizes, full-size shapes, small images, GPT-2's own attention."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "contracts"))
from checks.layers import rules
from checks.models import attention_layers, batch, build

from lowbit.config_arms import no_effect
from lowbit.errors import MissingExtraError, SettingError
from lowbit.layers.convert import convert
from lowbit.models.gpt import GPT as PlainGPT
from lowbit.models.gpt2 import GPT2
from lowbit.models.lstm import LSTM
from lowbit.models.mobilenet import MobileNet
from lowbit.models.resnet50 import ResNet50
from lowbit.models.vgg11 import Vgg11
from lowbit.models.vgg16 import Vgg16
from lowbit.quantizers.int8_absmax import Int8Absmax
from lowbit.quantizers.ternary_absmean import TernaryAbsmean
from lowbit.softmaxes.base_b import BaseB
from lowbit.softmaxes.base_e import BaseE
from lowbit.spec import Task, Training
from lowbit.train.optimizers import decay_groups

CIFAR = {"input_shape": (3, 32, 32), "classes": 10}
PTB = {"vocabulary": 10_000, "context": 35}
GPT = {"vocabulary": 50_257, "context": 1024}
SMALL_GPT2 = GPT2(depth=2, width=16, heads=2, dropout=0.0)
FULL_SIZE = {
    "resnet50": (ResNet50(), CIFAR, 23_520_842),
    "vgg11": (Vgg11(), CIFAR, 9_231_114),
    "vgg16": (Vgg16(), CIFAR, 14_728_266),
    "mobilenet": (MobileNet(), CIFAR, 2_236_682),
    "lstm-small": (LSTM(), PTB, 4_653_200),
    "lstm-medium": (LSTM(preset="medium"), PTB, 19_780_400),
    "lstm-large": (LSTM(preset="large"), PTB, 66_034_000),
    "lstm-large-tied": (LSTM(preset="large", tied=True), PTB, 51_034_000),
    "gpt2-small": (GPT2(), GPT, 124_439_808),
    "gpt2-medium": (GPT2(preset="medium"), GPT, 354_823_168),
}


@pytest.mark.parametrize(("recipe", "form", "published"), FULL_SIZE.values(), ids=FULL_SIZE)
def test_full_size_has_the_published_parameters_and_every_one_takes_part(recipe, form, published):
    with torch.device("meta"):
        module = recipe.build(softmax=BaseE(), **form)
        if "classes" in form:
            inputs, shape = torch.empty(2, *form["input_shape"]), (2, 10)
        else:
            length, tokens = form["context"], form["vocabulary"]
            inputs, shape = torch.empty(2, length, dtype=torch.int64), (2, length, tokens)
        logits = module(inputs)
        logits.sum().backward()
    assert sum(p.numel() for p in module.parameters()) == published
    assert logits.shape == shape
    assert all(p.grad is not None and p.grad.shape == p.shape for p in module.parameters())


@pytest.mark.parametrize(
    ("recipe", "last", "side"),
    [
        (ResNet50(width_per_group=1), "layer4", 4),
        (Vgg11(width=8), "0.28", 1),
        (Vgg16(width=8), "0.43", 1),
        (MobileNet(width_mult=0.1), "features.18", 4),
    ],
    ids=["resnet50", "vgg11", "vgg16", "mobilenet"],
)
def test_stems_are_made_for_small_images_of_any_number_of_channels(recipe, last, side):
    for size, channels in ((32, 3), (8, 1)):
        module = recipe.build(input_shape=(channels, size, size), classes=10, softmax=BaseE()).eval()
        first = next(m for m in module.modules() if isinstance(m, nn.Conv2d))
        sizes = []
        module.get_submodule(last).register_forward_hook(lambda m, i, out, sizes=sizes: sizes.append(out.shape[-1]))
        with torch.no_grad():
            assert module(torch.randn(2, channels, size, size)).shape == (2, 10)
        assert (first.in_channels, first.kernel_size, first.stride, first.padding) == (channels, (3, 3), (1, 1), (1, 1))
        assert sizes == [max(1, side * size // 32)]


def test_pooling_of_vgg_is_the_papers_where_sizes_are_even():
    module, images = build(Vgg11(width=8)), torch.randn(2, 3, 32, 32)
    rounded_up = module(images)
    for layer in module[0]:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = False
    assert torch.equal(module(images), rounded_up)


@pytest.mark.parametrize(("preset", "spread"), [("small", 0.1), ("medium", 0.05), ("large", 0.04)])
def test_lstm_starts_as_published_and_drops_between_layers_only(preset, spread):
    module = LSTM(preset=preset, width=40).build(**PTB, softmax=BaseE())
    for parameter in module.parameters():
        assert parameter.abs().max() <= spread
    assert module.lstm.weight_hh_l1.abs().max() > 0.99 * spread
    assert module.lstm.dropout == module.dropout.p == {"small": 0.0, "medium": 0.5, "large": 0.65}[preset]
    kept = LSTM(preset=preset, width=40, dropout=0.25, depth=1).build(**PTB, softmax=BaseE())
    assert (kept.dropout.p, kept.lstm.num_layers) == (0.25, 1)


def test_lstm_sequences_start_from_zeros_and_state_is_carried_within_them():
    recipe = LSTM(width=48)
    module, (inputs, _) = build(recipe), batch(recipe)
    torch.testing.assert_close(module(inputs[:, :3]), module(inputs)[:, :3])
    state, outputs = None, []
    for position in range(inputs.shape[1]):
        out, state = module.lstm(module.tokens(inputs[:, position : position + 1]), state)
        outputs.append(module.classifier(out))
    torch.testing.assert_close(torch.cat(outputs, 1), module(inputs))


def test_tied_weights_are_one_parameter():
    module = build(LSTM(width=16, tied=True))
    assert module.classifier.weight is module.tokens.weight
    assert build(LSTM(width=16)).classifier.weight is not build(LSTM(width=16)).tokens.weight


def test_gpt2_computes_what_the_library_computes_with_its_own_attention():
    from transformers import GPT2LMHeadModel
    from transformers.pytorch_utils import Conv1D

    module, (inputs, _) = build(SMALL_GPT2), batch(SMALL_GPT2)
    config = module.network.config.__class__(**module.network.config.to_dict())
    config._attn_implementation = "eager"
    library = GPT2LMHeadModel(config).eval()
    transposed = {f"{n}.weight" for n, m in library.named_modules() if isinstance(m, Conv1D)}
    weights = module.network.state_dict()
    library.load_state_dict({n: w.t() if n in transposed else w for n, w in weights.items()})
    assert len(transposed) == 2 * 4
    torch.testing.assert_close(module(inputs), library(inputs).logits)


def test_gpt2_attends_with_the_softmax_given():
    module, other = (build(SMALL_GPT2, softmax) for softmax in (BaseB(base=3.0), BaseE()))
    for block in other.network.transformer.h:  # the same function by way of the queries
        with torch.no_grad():
            block.attn.c_attn.weight[:16] *= BaseB(base=3.0).scale
    inputs, _ = batch(SMALL_GPT2)
    torch.testing.assert_close(module(inputs), other(inputs))
    assert len(attention_layers(module)) == 2


def test_gpt2_drops_attention_weights_in_training_only():
    module, (inputs, _) = build(GPT2(depth=1, width=16, heads=2, dropout=0.5)), batch(SMALL_GPT2)
    for layer in module.modules():
        if isinstance(layer, nn.Dropout) and layer is not module.network.transformer.h[0].attn.attn_dropout:
            layer.p = 0.0
    assert torch.equal(module(inputs), module(inputs))
    module.train()
    assert not torch.equal(module(inputs), module(inputs))


def test_every_matrix_of_gpt2_but_the_embeddings_becomes_low_bit():
    module = build(SMALL_GPT2)
    table = convert(module, rules(TernaryAbsmean(), Int8Absmax()))
    left = [row.name.removeprefix("network.") for row in table if not row.converted and row.parameters]
    assert left == ["transformer.wte", "transformer.wpe", "lm_head"]
    assert sum(row.converted for row in table) == 2 * 4
    absorbed = [row.name[-4:] for row in table if "absorbed" in row.reason]
    assert absorbed == ["ln_1", "ln_1", "ln_2", "ln_2"]
    assert module.network.lm_head.weight is module.network.transformer.wte.weight


def test_positions_of_gpt2_do_not_decay():
    module = build(SMALL_GPT2)
    decaying, others = (group["params"] for group in decay_groups(module, Training(weight_decay=0.1)))
    assert any(p is module.network.transformer.wpe.weight for p in others)
    assert any(p is module.network.transformer.wte.weight for p in decaying)


@pytest.mark.parametrize(("name", "refused"), [("gpt2", False), ("lstm", True), ("vgg16", True)])
def test_an_arm_about_attention_needs_a_model_that_attends(name, refused):
    arm = {"softmax_where": "attention"}
    task = Task(dataset="stdlib_text", model={"name": name}, **arm)
    assert any("has no attention" in why for why in no_effect(task, arm, "stdlib_text")) == refused


def test_heads_must_divide_the_width_and_the_extra_is_named(monkeypatch):
    with pytest.raises(ValueError, match="width 10 must be a multiple of heads 12; change one of them"):
        build(GPT2(width=10))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lowbit\[transformers\]' or use model gpt"):
        build(SMALL_GPT2)


def test_the_library_is_imported_by_those_alone_who_build_it():
    code = "import sys, lowbit.models.gpt2; from lowbit import catalog; catalog.build('models', {'name': 'gpt2'}); "
    code += "sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("width", "first", "last"), [(0.5, 16, 1280), (1, 32, 1280), (1.5, 48, 1920), (2, 64, 2560)])
def test_a_width_of_mobilenet_acts_on_the_last_layer_only_above_one(width, first, last):
    with torch.device("meta"):
        module = MobileNet(width_mult=width).build(softmax=BaseE(), **CIFAR)
    assert (module.features[0][0].out_channels, module.classifier[1].in_features) == (first, last)


@pytest.mark.parametrize("recipe", [PlainGPT(depth=1, width=16, heads=2), SMALL_GPT2], ids=["gpt", "gpt2"])
def test_a_sequence_longer_than_the_context_is_refused_with_both_lengths(recipe):
    module = recipe.build(vocabulary=7, context=5, softmax=BaseE()).eval()
    assert module(torch.zeros(2, 5, dtype=torch.int64)).shape == (2, 5, 7)
    with pytest.raises(SettingError, match=r"sequences of 6 tokens, .* a context of 5; cut them, or .*--context"):
        module(torch.zeros(2, 6, dtype=torch.int64))
