"""One seed, one result: derived seeds, two runs to the bit, and what may stand around a run without changing it."""

import os
import random

import numpy as np
import pytest
import torch
from small_runs import MODELS, assert_identical, changed, follow, small_spec, tensors_of

from lowbit.train.assemble import assemble
from lowbit.train.loop import train
from lowbit.train.reproducibility import derived_seed, generator, make_deterministic

BUSY = {"mixup": 0.3, "crop_padding": 1, "horizontal_flip": True}


def test_derived_seeds_are_fixed_for_ever():
    """A change here changes every result that was ever published."""
    assert derived_seed(0, "initialisation") == 6627693467999973565
    assert derived_seed(3, "order", 7) == 1037918587415109364
    assert torch.rand(1, generator=generator(0, "order")).item() == 0.24103432893753052


def test_derived_seeds_do_not_collide():
    purposes = ("order", "augment", "mixup", "offset", "step", "initialisation")
    seeds = {derived_seed(s, p, n) for s in range(12) for p in purposes for n in range(200)}
    assert len(seeds) == 12 * 6 * 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(1, "a", 12) != derived_seed(11, "a", 2)


@pytest.mark.parametrize("model", MODELS)
def test_two_runs_are_equal_to_the_bit_whatever_happened_before(model, folder_of):
    spec = small_spec(model, train={"epochs": 1} | ({} if model == "gpt" else BUSY))
    runs = []
    for disturbance in range(2):
        random.seed(disturbance)
        np.random.seed(disturbance)  # noqa: NPY002
        torch.manual_seed(disturbance)
        runs.append(follow(spec, folder_of[model]))
    one, other = runs
    assert (one.losses, one.evaluations, one.results) == (other.losses, other.evaluations, other.results)
    assert_identical(tensors_of(one.run.state), tensors_of(other.run.state))


def test_seeds_give_different_runs(images):
    spec = small_spec("vit", train={"epochs": 1})
    assert follow(spec, images).losses != follow(changed(spec, seed=1), images).losses


def test_layers_that_draw_random_numbers_get_those_of_the_step(images):
    """A layer that draws sees the same numbers in step 5 whether or not steps 1 to 4 were computed in this process."""

    def drawn(first_step: int) -> list[float]:
        run = assemble(small_spec("vit", train={"epochs": 1}), images)
        draws: list[float] = []

        def draw(module, *_):
            if module.training:
                draws.append(torch.rand(1).item())

        run.state.model.norm.register_forward_hook(draw)
        run.state.step = first_step
        list(train(run))
        return draws

    assert drawn(4) == drawn(0)[4:]


def test_deterministic_settings():
    torch.use_deterministic_algorithms(False)
    make_deterministic(1)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cuda.matmul.allow_tf32
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
