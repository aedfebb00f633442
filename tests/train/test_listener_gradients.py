"""Gradient statistics: what a line says, and that an interruption does not show in the file."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lowbit.train.events import GradientsReady, RunStarted
from lowbit.train.listeners.gradients import GradientStatistics

SPEC = SimpleNamespace(path="softmax/digits/base2/seed0", device="cpu")


def model_at(step: int) -> nn.Module:
    """A model whose gradients are a function of the step; its bias takes no part."""
    model = nn.Linear(3, 2)
    generator = torch.Generator().manual_seed(step)
    model.weight.grad = torch.randn(2, 3, generator=generator)
    return model


def observe(path: Path, steps: range, first_step: int = 0, every: int = 1) -> None:
    listener = GradientStatistics(path, every)
    assert listener.wants_gradients
    assert listener.optional
    listener.handle(RunStarted(spec=SPEC, steps=6, first_step=first_step, metric="accuracy", unit="samples"))
    for step in steps:
        listener.handle(GradientsReady(step=step, model=model_at(step)))
    listener.close()


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_line_holds_norm_rms_and_zero_fraction_of_each_gradient(tmp_path):
    path = tmp_path / "run" / "gradients.jsonl"
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False))
    model[0].weight.grad = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    model[0].bias.grad = torch.zeros(2)
    model[1].weight.grad = torch.tensor([[1.0, -1.0]])
    listener = GradientStatistics(path, every=1)
    listener.handle(RunStarted(spec=SPEC, steps=1, first_step=0, metric="accuracy", unit="samples"))
    listener.handle(GradientsReady(step=1, model=model))
    assert lines_of(path) == [
        {
            "step": 1,
            "norms": {"0.weight": 5.0, "0.bias": 0.0, "1.weight": pytest.approx(math.sqrt(2))},
            "rms": {"0.weight": 2.5, "0.bias": 0.0, "1.weight": pytest.approx(1.0)},
            "zero_fraction": {"0.weight": 0.5, "0.bias": 1.0, "1.weight": 0.0},
        }
    ]
    listener.close()


def test_parameters_without_gradient_are_left_out(tmp_path):
    path = tmp_path / "gradients.jsonl"
    observe(path, range(1, 2))
    assert list(lines_of(path)[0]["norms"]) == ["weight"]


def test_only_every_nth_step_is_observed(tmp_path):
    path = tmp_path / "gradients.jsonl"
    observe(path, range(1, 8), every=3)
    assert [line["step"] for line in lines_of(path)] == [3, 6]


@pytest.mark.parametrize("done", [3, 5])
@pytest.mark.parametrize("torn", ["", '{"step": 0, "norms": {"wei', '{"step": 0}'])
def test_file_of_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path, done, torn):
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    observe(whole, range(1, 7))
    observe(killed, range(1, done + 1))
    with killed.open("a") as stream:
        stream.write(torn)
    observe(killed, range(4, 7), first_step=3)
    assert killed.read_bytes() == whole.read_bytes()


def test_run_from_the_start_begins_a_new_file(tmp_path):
    path = tmp_path / "gradients.jsonl"
    observe(path, range(1, 4))
    observe(path, range(1, 2))
    assert [line["step"] for line in lines_of(path)] == [1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_number_that_is_not_finite_becomes_null(tmp_path, value):
    path = tmp_path / "gradients.jsonl"
    listener = GradientStatistics(path, every=1)
    listener.handle(RunStarted(spec=SPEC, steps=1, first_step=0, metric="accuracy", unit="samples"))
    model = model_at(1)
    model.weight.grad[0, 0] = value
    listener.handle(GradientsReady(step=1, model=model))
    listener.close()
    (line,) = lines_of(path)
    assert line["norms"] == {"weight": None}
    assert line["zero_fraction"] == {"weight": 0.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norms_agree_with_a_float64_reference(tmp_path, dtype):
    path = tmp_path / "gradients.jsonl"
    model = nn.Linear(64, 32).to(dtype)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    listener = GradientStatistics(path, every=1)
    listener.handle(RunStarted(spec=SPEC, steps=1, first_step=0, metric="accuracy", unit="samples"))
    listener.handle(GradientsReady(step=1, model=model))
    listener.close()
    (line,) = lines_of(path)
    for name, parameter in model.named_parameters():
        expected = parameter.grad.double().norm().item()
        assert line["norms"][name] == pytest.approx(expected, rel=4 * torch.finfo(dtype).eps)
