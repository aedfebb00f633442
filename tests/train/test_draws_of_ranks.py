"""What ranks draw at random: each for its own samples, and the same in every run of a seed."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import small_spec, until
from torch import Tensor, nn

from lowbit.spec import RunSpec
from lowbit.train.assemble import Run, assemble
from lowbit.train.clock import Clock
from lowbit.train.loop import train
from lowbit.train.parallel import Ranks

STEPS = 2


class Silent(Ranks):
    """Ranks that hear nothing of one another: what one draws must not depend on what others send."""

    def sum(self, tensor: Tensor) -> Tensor:
        """Its own."""
        return tensor


class NoExchange:
    """An exchange in which nothing is exchanged."""

    stopping = saving = False
    loss_factor = 2

    def __init__(self, model: nn.Module):
        self.model, self.clock = model, Clock("cpu")

    def begin(self, step: int) -> None:
        self.clock.begin()

    def accumulating(self, last: bool) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def told(self) -> None:
        return None

    def summed(self, pending: list[tuple[dict[str, Any], list[Tensor]]]) -> list[tuple[dict[str, Any], list[Tensor]]]:
        return [({k: v for k, v in record.items() if k != "told"}, numbers) for record, numbers in pending]

    def align_buffers(self) -> None:
        """Each keeps its own."""


def rank_of(spec: RunSpec, data: Path, rank: int | None) -> Run:
    """A rank of two, or a process alone."""
    if rank is None:
        return assemble(spec.model_copy(update={"exchange": None}), data)
    run = assemble(spec, data, Silent(rank, 2))
    run.exchange = NoExchange(run.state.model)
    return run


DROPPING = {"model": {"name": "lstm", "depth": 1, "width": 8, "dropout": 0.5}, "context": 8, "dataset": "text"}


def masks(text: Path, rank: int, seed: int = 0) -> list[Tensor]:
    """What a rank drops in each of the first steps."""
    spec = RunSpec(
        **DROPPING, seed=seed, exchange={}, quantization={"weight": {"name": "none"}},
        train={"batch_size": 8, "epochs": 1}, record={"ternary_every_steps": 100},
    )  # fmt: skip
    run = rank_of(spec, text, rank)
    seen: list[Tensor] = []
    dropout = run.state.model.dropout
    dropout.register_forward_pre_hook(lambda m, inputs: (torch.ones_like(inputs[0]),))
    dropout.register_forward_hook(lambda m, i, output: seen.append(output.detach() != 0) if m.training else None)
    list(until(train(run), STEPS))
    assert len(seen) == 2 * STEPS  # after the embedding and after the last layer
    assert all(0.2 < mask.double().mean() < 0.8 for mask in seen)
    return seen


def assert_same(one: list[Tensor], other: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def assert_all_differ(one: list[Tensor], other: list[Tensor]) -> None:
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_ranks_drop_apart_and_the_same_in_every_run_of_a_seed(text):
    first, second = masks(text, 0), masks(text, 1)
    assert_all_differ(first, second)
    assert_all_differ(first[:2], first[2:])  # the steps of a rank
    for rank, found in enumerate((first, second)):
        assert_same(found, masks(text, rank))
        assert_all_differ(found, masks(text, rank, seed=1))


AUGMENTED = {"crop_padding": 2, "horizontal_flip": True, "epochs": 1}


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_ranks_augment_apart_and_together_as_one_process(images, mixup):
    spec = small_spec("vit", train=AUGMENTED | {"mixup": mixup}, exchange={})

    def inputs(rank: int | None, **changed: Any) -> list[Tensor]:
        run = rank_of(spec.model_copy(update=changed), images, rank)
        same, labels = run.batches._read("train", slice(0, 1))
        # Every image is the same one, so that only what is drawn can tell two samples apart.
        run.batches._read = lambda split, which: (same.expand(len(which), -1, -1, -1), labels.expand(len(which)))
        seen: list[Tensor] = []
        run.state.model.register_forward_pre_hook(lambda m, i: seen.append(i[0].clone()) if m.training else None)
        list(until(train(run), STEPS))
        assert len(seen) == STEPS
        return seen

    first, second, alone = inputs(0), inputs(1), inputs(None)
    assert_all_differ(first, second)
    for mine, other, whole in zip(first, second, alone, strict=True):
        assert torch.equal(whole[0::2], mine)
        assert torch.equal(whole[1::2], other)
        assert len(whole.unique(dim=0)) > len(whole) / 2
    assert_same(first, inputs(0))
    assert_all_differ(first, inputs(0, seed=1))
