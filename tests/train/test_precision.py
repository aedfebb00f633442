"""What stays in single precision under bfloat16, and that float64 is float64 from the images to the moments."""

import pytest
import torch
from small_runs import follow, small_spec, until

from lowbit.layers.bit_linear import BitLinear
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.train.assemble import Run, assemble
from lowbit.train.loop import train

MODELS = ("resnet18", "vit", "gpt")
ACTIVATION = {"activation": {"name": "int8_absmax"}}


def floats_of(run: Run) -> dict[str, torch.dtype]:
    """Dtype of each floating-point tensor that outlives a step."""
    state = run.state
    tensors = dict(state.model.state_dict())
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"moment {index}.{name}": m for name, m in moments.items() if torch.is_tensor(m) and name != "step"}
    return {name: t.dtype for name, t in tensors.items() if t.is_floating_point()}


def watch(run: Run, monkeypatch) -> dict[str, set[torch.dtype]]:
    """Dtypes seen inside one step, by place."""
    seen: dict[str, set[torch.dtype]] = {}

    def note(place: str, *tensors: torch.Tensor) -> None:
        seen.setdefault(place, set()).update(t.dtype for t in tensors if t.is_floating_point())

    for module in run.state.model.modules():
        if isinstance(module, BitLinear):
            module.norm.register_forward_hook(lambda _, given, out: note("norm inside BitLinear", *given, out))
            module.register_forward_hook(lambda _, given, out: note("output of BitLinear", out))
        if hasattr(module, "weight_quantizer"):
            honest, codes = type(module.weight_quantizer).quantize, type(module.weight_quantizer)
            monkeypatch.setattr(codes, "quantize", _noting(honest, note))
    loss = ExponentialSoftmax.cross_entropy

    def cross_entropy(self, logits, target, **keywords):
        value = loss(self, logits, target, **keywords)
        note("logits", logits)
        note("loss", value)
        return value

    monkeypatch.setattr(ExponentialSoftmax, "cross_entropy", cross_entropy)
    for _ in until(train(run, lambda: bool(note("gradients", *_gradients(run)))), 2):
        pass
    return seen


def _noting(honest, note):
    def quantize(self, x, kept=()):
        q = honest(self, x, kept)
        note("scales and codes", x, q.scale, q.codes)
        return q

    return quantize


def _gradients(run: Run) -> list[torch.Tensor]:
    return [p.grad for p in run.state.model.parameters() if p.grad is not None]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_keeps_what_must_be_exact_in_float32(model, optimizer, folder_of, monkeypatch):
    train_settings = {"precision": "bfloat16", "optimizer": optimizer}
    run = assemble(small_spec(model, train=train_settings, quantization=ACTIVATION), folder_of[model])
    seen = watch(run, monkeypatch)
    single = {torch.float32}
    assert seen["logits"] == {torch.bfloat16}, "autocast is off"
    for place in ("loss", "gradients", "scales and codes"):
        assert seen[place] == single, place
    if model != "resnet18":
        assert seen["norm inside BitLinear"] == single
        assert seen["output of BitLinear"] == {torch.bfloat16}
    kept = floats_of(run)
    assert any(name.startswith("moment") for name in kept)
    assert set(kept.values()) == single


@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_learns_about_as_float32_does(model, folder_of):
    """Within rounding in the first step, and not merely equal: the multiplications really are shorter."""
    losses = [
        follow(small_spec(model, train={"precision": p, "epochs": 0.2}), folder_of[model]).losses[0]
        for p in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_loss_of_bfloat16_logits_is_computed_in_float32():
    """Logits scaled by ln 2 in bfloat16 would be off by up to 0.4%."""
    from lowbit.softmaxes.base2 import Base2

    logits = (torch.randn(64, 10, generator=torch.Generator().manual_seed(0)) * 8).bfloat16()
    target = torch.arange(64) % 10
    exact = Base2().cross_entropy(logits.double(), target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Base2().cross_entropy(logits, target)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("model", MODELS)
def test_float64_is_float64_throughout(model, optimizer, folder_of, monkeypatch):
    train_settings = {"precision": "float64", "optimizer": optimizer}
    if model != "gpt":
        train_settings |= {"mixup": 0.3, "crop_padding": 1}
    run = assemble(small_spec(model, train=train_settings, quantization=ACTIVATION), folder_of[model])
    batch = run.batches.training(0)
    double = {torch.float64}
    assert {t.dtype for t in (batch.inputs, batch.targets) if t.is_floating_point()} <= double
    seen = watch(run, monkeypatch)
    assert len(seen) >= 4
    for place, dtypes in seen.items():
        assert dtypes == double, place
    assert set(floats_of(run).values()) == double


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_no_autocast_without_bfloat16(precision, images):
    run = assemble(small_spec("vit", train={"precision": precision}), images)
    with run.autocast():
        assert not torch.is_autocast_enabled("cpu")
