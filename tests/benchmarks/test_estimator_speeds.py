"""Estimators have a speed only when they are right."""

import numpy as np
import pytest
import torch

from lowbit.benchmarks import estimators
from lowbit.benchmarks._timing import WrongResultError
from lowbit.estimators import nes
from lowbit.problems._mlp import MlpObjective
from lowbit.problems._network_objective import NetworkObjective

CASES = {
    "cdg": (MlpObjective, "coordinate_losses", lambda: estimators._cdg(8, 64, 1)),
    "cdg of a network": (
        NetworkObjective,
        "coordinate_losses",
        lambda: estimators._cdg_of_network("second_last", 2, 1),
    ),
    "dg": (MlpObjective, "coordinate_losses", lambda: estimators._dg(8, 64, 1)),
    "nes": (MlpObjective, "paired_losses", lambda: estimators._nes(8, 64, 1)),
}


@pytest.fixture(autouse=True)
def no_time_is_taken(monkeypatch):
    monkeypatch.setattr(
        estimators, "seconds_side_by_side", lambda contestants, rounds: dict.fromkeys(contestants, np.ones(rounds))
    )


@pytest.mark.parametrize(("objective", "method", "case"), CASES.values(), ids=CASES)
def test_wrong_losses_have_no_speed(objective, method, case, monkeypatch):
    rows = list(case())
    assert rows[0].metric == "ratio"
    assert rows[0].value > 0
    right = getattr(objective, method)

    def wrong(self, *args):
        losses = right(self, *args)
        losses.view(-1)[:1].mul_(1 - 1e-3)
        return losses

    monkeypatch.setattr(objective, method, wrong)
    with pytest.raises(WrongResultError, match="no speed is reported"):
        next(case())


def test_a_wrong_sum_has_no_speed(monkeypatch):
    right = nes._accumulate
    monkeypatch.setattr(
        nes, "_accumulate", lambda sums, noise, *rest: right(sums, noise | {"hidden2": 0 * noise["hidden2"]}, *rest)
    )
    with pytest.raises(WrongResultError, match="nes dim 8"):
        next(estimators._nes(8, 64, 1))


def test_the_layers_of_the_notes_are_measured():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    sizes = {layer: estimators._network(layer, 2).network.studied for layer in estimators._UNITS}
    assert [next(iter(t.values())).numel() for t in sizes.values()] == [576, 2304, 36864]
    assert torch.equal(torch.get_rng_state(), state)
