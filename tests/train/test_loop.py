"""What one step computes and reports: scale and smoothing of the loss, places of the softmax, blending, records."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_runs import MODELS, changed, follow, lasting, small_spec

from lowbit.layers.convert import bit_layers
from lowbit.train import loop
from lowbit.train.assemble import Run, assemble
from lowbit.train.checkpoint import weights_sha256
from lowbit.train.events import Evaluated, GradientsReady, RunFinished, RunStarted, StateReady, StepsFinished
from lowbit.train.loop import blend_of, forward_backward, train

DOUBLE = {"precision": "float64"}
LN2 = math.log(2)


def first_step(spec, folder) -> tuple[Run, dict[str, torch.Tensor], float]:
    """A run, the gradients of its first step, and the loss that would be reported."""
    run = assemble(spec, folder)
    batch = run.batches.training(0)
    total = forward_backward(run, batch)[0].item()
    return run, {n: p.grad.clone() for n, p in run.state.model.named_parameters()}, total / batch.count


def assert_scaled(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], factor: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(other[name], factor * one[name], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("scale", "factor"), [("ln2", LN2), ("1/ln2", 1 / LN2), (3.0, 3.0)])
@pytest.mark.parametrize("model", ["vit", "gpt"])
def test_loss_scale_multiplies_gradients_and_leaves_the_reported_loss(scale, factor, model, folder_of):
    spec = small_spec(model, train=DOUBLE)
    _, plain, loss = first_step(spec, folder_of[model])
    _, scaled, other = first_step(changed(spec, loss={"scale": scale}), folder_of[model])
    assert other == loss
    assert_scaled(plain, scaled, factor)


@pytest.mark.parametrize(("softmax", "natural"), [
    ({"name": "base_e"}, 1.0),
    ({"name": "base_e", "temperature": 2.5}, 0.4),
    ({"name": "base2"}, LN2),
    ({"name": "base_b", "base": 10.0, "temperature": 2.0}, math.log(10) / 2),
])  # fmt: skip
@pytest.mark.parametrize(
    "extra", [{}, {"label_smoothing": 0.2}, {"mixup": 0.5}, {"label_smoothing": 0.1, "mixup": 0.5}]
)
def test_step_equals_a_plain_pytorch_step(softmax, natural, extra, images):
    """Loss and gradient from the definition: -sum_k q_k log softmax(s z)_k, averaged over samples."""
    smoothing = extra.get("label_smoothing", 0.0)
    spec = small_spec("vit", train=DOUBLE | {"mixup": extra.get("mixup", 0.0)}, softmax=softmax, softmax_where="loss")
    spec = changed(spec, loss={"label_smoothing": smoothing, "scale": 2.0})
    run, gradients, reported = first_step(spec, images)
    batch = run.batches.training(0)
    model = run.state.model
    model.zero_grad()
    logp = F.log_softmax(natural * model(batch.inputs), 1)
    wanted = batch.targets if "mixup" in extra else F.one_hot(batch.labels, 4).double()
    wanted = (1 - smoothing) * wanted + smoothing / 4
    (-2.0 * (wanted * logp).sum(1).mean()).backward()
    assert_scaled({n: p.grad for n, p in model.named_parameters()}, gradients, 1.0)
    assert reported == pytest.approx(-logp.gather(1, batch.labels[:, None]).mean().item(), rel=1e-12)


@pytest.mark.parametrize("extra", [{"train": {"mixup": 0.3}}, {"loss": {"label_smoothing": 0.3}}])
def test_reported_loss_is_unsmoothed_but_training_is_not(extra, images):
    spec = small_spec("vit", train=DOUBLE)
    _, plain, loss = first_step(spec, images)
    _, other, reported = first_step(changed(spec, **extra), images)
    if "loss" in extra:
        assert reported == loss
    assert not torch.allclose(plain["classifier.bias"], other["classifier.bias"], rtol=1e-3)


def attention_scales(run: Run) -> set[float]:
    return {m.softmax.scale for m in run.state.model.modules() if hasattr(m, "softmax")}


@pytest.mark.parametrize(("where", "attention", "loss"), [("both", LN2, LN2), ("attention", LN2, 1), ("loss", 1, LN2)])
@pytest.mark.parametrize("model", ["vit", "gpt"])
def test_softmax_stands_where_it_is_asked_for(where, attention, loss, model, folder_of):
    spec = small_spec(model, softmax={"name": "base2"}, softmax_where=where)
    run = assemble(spec, folder_of[model])
    assert attention_scales(run) == {attention}
    assert run.softmax.scale == loss


def test_places_of_the_softmax_change_what_they_should(folder_of):
    """Attention alone changes the logits; the loss alone does not, and changes what is made of them."""
    spec = small_spec("gpt", softmax={"name": "base2"}, train=DOUBLE)
    runs = {"none": assemble(changed(spec, softmax={"name": "base_e"}), folder_of["gpt"])}
    for where in ("both", "attention", "loss"):
        runs[where] = assemble(changed(spec, softmax_where=where), folder_of["gpt"])
    batch = runs["none"].batches.training(0)
    logits = {name: run.state.model(batch.inputs) for name, run in runs.items()}
    assert torch.equal(logits["loss"], logits["none"])
    assert torch.equal(logits["attention"], logits["both"])
    assert not torch.equal(logits["attention"], logits["none"])
    losses = {name: forward_backward(run, batch)[0].item() for name, run in runs.items()}
    assert len({round(loss, 9) for loss in losses.values()}) == 4


def test_softmax_in_attention_alone_does_nothing_to_a_network_without(images):
    spec = small_spec("resnet18", softmax={"name": "base2"}, softmax_where="attention", train={"epochs": 0.5})
    one, other = (follow(s, images) for s in (spec, changed(spec, softmax={"name": "base_e"})))
    assert one.losses == other.losses


CONTROLS = {
    "base2": ({"name": "base2"}, {"name": "base_e", "temperature": "1/ln2"}),
    "standard": ({"name": "base_e"}, {"name": "base2", "temperature": "ln2"}),
    "base_b": ({"name": "base2", "temperature": 0.7}, {"name": "base_b", "base": 2.0, "temperature": 0.7}),
}
RECIPE = {"warmup_epochs": 0.5, "clip_norm": 1.0, "weight_decay": 0.01, "lr": 0.02}


@pytest.mark.parametrize(
    ("control", "precision"),
    [*((control, "float32") for control in CONTROLS), ("base2", "bfloat16"), ("base2", "float64")],
)
@pytest.mark.parametrize("model", MODELS)
def test_control_arms_are_identical_to_the_bit(model, control, precision, folder_of):
    """Arms that are equal on paper give equal losses, norms, codes and weights, though one bit off would flip codes."""
    epochs = 1 if precision != "float32" or model == "resnet18" else 4
    activation = {"name": "none" if model == "resnet18" else "int8_absmax"}
    settings = {
        "train": RECIPE | {"precision": precision, "epochs": epochs},
        "quantization": {"activation": activation},
    }
    runs = [follow(small_spec(model, softmax=softmax, **settings), folder_of[model]) for softmax in CONTROLS[control]]
    digests = {weights_sha256(run.run.state.model.state_dict()) for run in runs}
    assert len(digests) == 1
    assert [lasting(r) for r in runs[0].records] == [lasting(r) for r in runs[1].records]
    assert (runs[0].evaluations, runs[0].results) == (runs[1].evaluations, runs[1].results)


@pytest.mark.parametrize("model", MODELS)
def test_arms_that_are_not_controls_differ(model, folder_of):
    one, other = (follow(small_spec(model, softmax={"name": name}), folder_of[model]) for name in ("base_e", "base2"))
    assert one.losses[0] != other.losses[0]
    assert one.results != other.results


def test_arm_with_scaled_loss_is_not_the_arm_of_base_2(images):
    """Adam cancels the scale of the gradient, so loss_ln2 follows the standard arm and not base 2; SGD does not."""
    train = DOUBLE | {"epochs": 0.5, "eps": 1e-16}
    losses = {}
    for optimizer in ("adamw", "sgd"):
        standard = small_spec("vit", train=train | {"optimizer": optimizer})
        arms = {"standard": standard, "ln2": changed(standard, loss={"scale": "ln2"})}
        losses[optimizer] = {name: follow(spec, images).losses for name, spec in arms.items()}
    assert losses["adamw"]["ln2"] == pytest.approx(losses["adamw"]["standard"], rel=1e-8)
    assert losses["sgd"]["ln2"] != pytest.approx(losses["sgd"]["standard"], rel=1e-4)


def events_of(spec, folder, want_gradients: bool = False) -> list[Any]:
    return list(train(assemble(spec, folder), lambda: want_gradients))


def test_events_come_in_the_documented_order(images):
    spec = small_spec("vit", train={"epochs": 1, "batch_size": 32, "evaluations_per_epoch": 1})
    kinds = [type(event) for event in events_of(spec, images, want_gradients=True)]
    step = [GradientsReady, StepsFinished]
    assert kinds == [RunStarted, *step, StateReady, *step, StateReady, *step, Evaluated, StateReady, RunFinished]


@pytest.mark.parametrize(("log_every", "windows"), [(1, [1] * 12), (4, [4, 2, 4, 2]), (100, [6, 6])])
def test_windows_of_records(log_every, windows, images):
    """How often numbers are read changes neither them nor the run."""
    base = small_spec("vit", train={"clip_norm": 0.5})
    spec = changed(base, record={"log_every": log_every})
    seen = [event.records for event in events_of(spec, images) if isinstance(event, StepsFinished)]
    assert [len(records) for records in seen] == windows
    for records in seen:
        assert ["samples_per_second" in r for r in records] == [False] * (len(records) - 1) + [True]
    flat = [record for records in seen for record in records]
    assert [r["step"] for r in flat] == list(range(1, 13))
    assert [r["epoch"] for r in flat] == [step / 6 for step in range(1, 13)]
    keys = ("loss", "accuracy", "gradient_norm", "clipped", "lr", "samples")
    plain = follow(base, images).records
    assert [[r[k] for k in keys] for r in flat] == [[r[k] for k in keys] for r in plain]


@pytest.mark.parametrize(("model", "unit", "counts"), [("vit", "samples", {16}), ("gpt", "tokens", {256})])
def test_units_of_records(model, unit, counts, folder_of):
    records = follow(small_spec(model), folder_of[model]).records
    assert {record[unit] for record in records} == counts
    assert all(record[f"{unit}_per_second"] > 0 for record in records)
    assert all(("perplexity" in record) == (model == "gpt") for record in records)


@pytest.mark.parametrize(("epochs", "per_epoch", "steps"), [
    (2, 1, [6, 12]), (2, 3, [2, 4, 6, 8, 10, 12]), (1.5, 1, [6, 9]), (0.5, 1, [3]), (1, 100, [1, 2, 3, 4, 5, 6]),
    (0.01, 1, [1]),
])  # fmt: skip
def test_evaluations_come_when_due_and_at_the_end(epochs, per_epoch, steps, images):
    spec = small_spec("vit", train={"epochs": epochs, "evaluations_per_epoch": per_epoch})
    followed = follow(spec, images)
    assert [record["step"] for record in followed.evaluations] == steps
    assert followed.run.steps == steps[-1]


def test_blend_rises_linearly_and_stays_at_one(images, monkeypatch):
    spec = small_spec("vit", quantization={"blend_epochs": 1.5})
    blends = []
    monkeypatch.setattr(loop, "forward_backward", lambda run, batch: (note(run), forward_backward(run, batch))[1])

    def note(run):
        (blend,) = {layer.blend for layer in bit_layers(run.state.model).values()}
        blends.append(blend)

    follow(spec, images)
    assert blends == pytest.approx([min(1.0, step / 9) for step in range(12)])
    assert blends[0] == 0.0
    assert blends[9:] == [1.0] * 3


def test_blend_zero_is_full_precision(images):
    """The first step of a quantization warm-up is that of the dense network, RMSNorms inside."""
    spec = small_spec("vit", quantization={"blend_epochs": 3, "activation": {"name": "int8_absmax"}})
    blended = assemble(spec, images)
    loop.set_blend(blended.state.model, blend_of(blended, 0))
    one = forward_backward(blended, blended.batches.training(0))
    assert torch.isfinite(one[0])
    quantized = assemble(changed(spec, quantization={"blend_epochs": 0}), images)
    assert blend_of(quantized, 0) == 1.0
    other = forward_backward(quantized, quantized.batches.training(0))
    assert one[0] != other[0]
    half = assemble(spec, images)
    loop.set_blend(half.state.model, 1.0)
    assert forward_backward(half, half.batches.training(0))[0] == other[0]


def test_gradient_norm_is_that_of_all_gradients_as_one_vector(images):
    run = assemble(small_spec("resnet18"), images)
    parameters = list(run.state.model.parameters())
    forward_backward(run, run.batches.training(0))
    parameters[0].grad = None  # a parameter that took no part
    whole = torch.cat([p.grad.double().flatten() for p in parameters[1:]])
    assert loop.gradient_norm(parameters).item() == pytest.approx(whole.norm().item(), rel=1e-5)
    assert loop.gradient_norm([p for p in parameters[1:] if p.dim() > 1]) > 0
