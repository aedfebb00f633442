"""Decay groups, schedules, clipping, and the fused optimizers against the plain ones."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import changed, follow, small_spec

from lowbit.layers.convert import bit_layers
from lowbit.spec import Training
from lowbit.train import loop
from lowbit.train.assemble import assemble
from lowbit.train.optimizers import Schedule, build_optimizer, decay_groups, lr_factor

SCHEDULERS = ("constant", "cosine", "step", "linear", "two_stage")


def decayed(model: torch.nn.Module, train: Training) -> set[str]:
    """Names of the parameters that weight decay acts on."""
    groups = decay_groups(model, train)
    every = [id(p) for group in groups for p in group["params"]]
    assert sorted(every) == sorted(id(p) for p in model.parameters())
    chosen = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in chosen}


EXPECTED = {
    "vit": {
        "patches.weight", "classifier.weight", "blocks.0.attention.qkv.weight", "blocks.0.attention.output.weight",
        "blocks.0.expand.weight", "blocks.0.contract.weight",
    },
    "gpt": {
        "tokens.weight", "classifier.weight", "blocks.0.attention.qkv.weight", "blocks.0.attention.output.weight",
        "blocks.0.expand.weight", "blocks.0.contract.weight",
    },
}  # fmt: skip


@pytest.mark.parametrize("model", EXPECTED)
def test_decay_acts_on_matrices_only(model, folder_of):
    spec = small_spec(model, train={"weight_decay": 0.1})
    assert decayed(assemble(spec, folder_of[model]).state.model, spec.train) == EXPECTED[model]


def test_decay_of_a_convolutional_network(images):
    spec = small_spec("resnet18", train={"weight_decay": 0.1})
    model = assemble(spec, images).state.model
    kernels = {name for name, p in model.named_parameters() if p.ndim > 1}
    assert decayed(model, spec.train) == kernels
    assert len(kernels) == 1 + 16 + 3 + 1


def test_decay_can_spare_latent_weights(images):
    spec = small_spec("vit", train={"weight_decay": 0.1, "decay_latent": False})
    model = assemble(spec, images).state.model
    assert len(bit_layers(model)) == 4
    assert decayed(model, spec.train) == {"patches.weight", "classifier.weight"}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_decay_shrinks_only_what_it_should(optimizer, images):
    spec = small_spec("vit", train={"optimizer": optimizer, "weight_decay": 0.1, "lr": 0.5})
    model = assemble(spec, images).state.model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    build_optimizer(model, spec.train).step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.5 * 0.1 if name in EXPECTED["vit"] else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


@pytest.mark.parametrize("train", [
    {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01, "lr": 0.1},
    {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1},
    {"optimizer": "adamw", "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1, "lr": 0.02},
])  # fmt: skip
def test_fused_optimizer_equals_the_plain_one(train):
    recipe = Training(**train)
    rng = torch.Generator().manual_seed(0)
    models = [torch.nn.Linear(37, 11, dtype=torch.float64) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    fused = build_optimizer(models[0], recipe)
    plain = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[recipe.optimizer]
    keys = {"sgd": {"momentum": recipe.momentum}, "adamw": {"betas": (recipe.beta1, recipe.beta2), "eps": recipe.eps}}
    slow = plain(decay_groups(models[1], recipe), lr=recipe.lr, foreach=False, fused=False, **keys[recipe.optimizer])
    for _ in range(20):
        for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=rng, dtype=torch.float64)
            other.grad = one.grad.clone()
        fused.step()
        slow.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


recipes = st.builds(
    Training,
    scheduler=st.sampled_from(SCHEDULERS),
    warmup_epochs=st.integers(0, 60).map(lambda n: n / 10),
    final_lr_fraction=st.integers(0, 20).map(lambda n: n / 20),
    step_epochs=st.integers(1, 200).map(lambda n: n / 20),
    step_factor=st.integers(0, 20).map(lambda n: n / 20),
)


@settings(max_examples=200, deadline=None)
@given(recipes, st.integers(1, 300), st.integers(1, 60))
def test_learning_rate_is_never_negative_nor_above_its_peak(train, steps, per_epoch):
    factors = [lr_factor(step, steps, per_epoch, train) for step in range(steps + 1)]
    assert all(0 <= factor <= 1 for factor in factors)
    warmup = min(round(train.warmup_epochs * per_epoch), steps + 1)
    rising, falling = factors[:warmup], factors[warmup:]
    assert rising == [(i + 1) / round(train.warmup_epochs * per_epoch) for i in range(warmup)]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(falling))


@settings(max_examples=200, deadline=None)
@given(recipes, st.integers(2, 300), st.integers(1, 60))
def test_learning_rate_is_continuous_where_it_should_be(train, steps, per_epoch):
    """No step changes it by more than the steepest slope; BitNet's second stage begins with a jump, at half time."""
    warmup = round(train.warmup_epochs * per_epoch)
    steepest = math.pi / 2 / max(1, steps - warmup) + 1e-9
    factors = [lr_factor(step, steps, per_epoch, train) for step in range(steps + 1)]
    if train.scheduler == "step":
        return
    for step in range(max(1, warmup), steps + 1):
        jump = train.scheduler == "two_stage" and step == max(warmup, math.ceil(steps / 2))
        assert jump or abs(factors[step] - factors[step - 1]) <= steepest


def test_cosine_passes_its_middle_and_ends_at_its_end():
    train = Training(scheduler="cosine", warmup_epochs=2, final_lr_fraction=0.2)
    values = [lr_factor(step, 110, 5, train) for step in (0, 9, 10, 60, 110)]
    assert values == pytest.approx([0.1, 1.0, 1.0, 0.6, 0.2], abs=1e-12)


def test_linear_goes_straight_to_its_end():
    train = Training(scheduler="linear", final_lr_fraction=0.5)
    assert [lr_factor(s, 4, 1, train) for s in range(5)] == pytest.approx([1, 0.875, 0.75, 0.625, 0.5], abs=1e-15)


def test_drops_come_after_whole_periods():
    train = Training(scheduler="step", step_epochs=2, step_factor=0.1)
    values = [lr_factor(step, 100, 5, train) for step in (0, 9, 10, 19, 20, 29, 30)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001])


def test_two_stages_of_bitnet():
    """Linear decay; in the second half times a factor, and without weight decay."""
    train = Training(scheduler="two_stage", step_factor=0.4, warmup_epochs=1, weight_decay=0.1, lr=2.0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    optimizer = build_optimizer(model, train)
    schedule = Schedule(optimizer, train, 20, 2)
    seen = []
    for _ in range(20):
        seen.append([(group["lr"], group["weight_decay"]) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    lrs = [2.0 * f for f in (0.5, 1.0, *(1 - n / 18 for n in range(8)), *(0.4 * (1 - n / 18) for n in range(8, 18)))]
    for (matrix, other), lr, step in zip(seen, lrs, range(20), strict=True):
        assert matrix == (pytest.approx(lr), 0.1 if step < 10 else 0.0)
        assert other == (pytest.approx(lr), 0.0)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_records_hold_what_each_step_used(scheduler, images):
    train = {"optimizer": "sgd", "momentum": 0, "lr": 0.05, "warmup_epochs": 0.5, "scheduler": scheduler, "epochs": 1}
    spec = small_spec("vit", train=train | {"step_epochs": 0.5, "weight_decay": 0.01})
    records = follow(spec, images).records
    assert [r["lr"] for r in records] == [0.05 * lr_factor(step, 6, 6, spec.train) for step in range(6)]
    expected = [0.01] * 3 + [0.0] * 3 if scheduler == "two_stage" else [0.01] * 6
    assert [r["weight_decay"] for r in records] == expected


@pytest.mark.parametrize("clip", [0.0, 0.05, 1e6])
def test_clipping_scales_the_gradient_and_logs_its_norm_before(clip, images, monkeypatch):
    """Plain SGD moves by lr times the gradient, so the length of the move tells the norm that was used."""
    train = {"optimizer": "sgd", "momentum": 0, "lr": 0.1, "scheduler": "constant", "precision": "float64"}
    spec = small_spec("vit", train=train | {"clip_norm": clip, "epochs": 0.5})
    run = assemble(spec, images)
    norms, weights = [], []
    whole_step = loop.forward_backward

    def watched(run, batch):
        weights.append(flat(run.state.model))
        sums = whole_step(run, batch)
        norms.append(torch.cat([p.grad.flatten() for p in run.state.model.parameters()]).norm().item())
        return sums

    monkeypatch.setattr(loop, "forward_backward", watched)
    records = [record for event in loop.train(run) for record in getattr(event, "records", ())]
    weights.append(flat(run.state.model))
    moves = [(after - before).norm().item() / 0.1 for before, after in itertools.pairwise(weights)]
    assert [r["gradient_norm"] for r in records] == pytest.approx(norms, rel=1e-12)
    assert [r["clipped"] for r in records] == [bool(clip) and norm > clip for norm in norms]
    assert moves == pytest.approx([min(norm, clip) if clip else norm for norm in norms], rel=1e-4)


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def test_gradients_do_not_leak_into_the_next_step(images):
    """A run of one step, repeated with the weights of a longer run put in, gives the gradient of that step alone."""
    spec = small_spec("vit", train={"optimizer": "sgd", "lr": 1e-12, "momentum": 0, "scheduler": "constant"})
    norms = [record["gradient_norm"] for record in follow(spec, images).records]
    run = assemble(spec, images)
    for step, norm in enumerate(norms):
        run.state.model.zero_grad()
        loop.forward_backward(run, run.batches.training(step))
        alone = torch.nn.utils.get_total_norm([p.grad for p in run.state.model.parameters()])
        assert alone.item() == pytest.approx(norm, rel=1e-5)


def test_weight_decay_schedule_survives_other_schedulers(images):
    spec = changed(small_spec("vit", train={"weight_decay": 0.3}), train={"scheduler": "cosine"})
    assert {record["weight_decay"] for record in follow(spec, images).records} == {0.3}
