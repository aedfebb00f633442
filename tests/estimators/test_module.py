"""Any module and loss: the ones that `vmap` cannot take too, and what is not a parameter stays as it is."""

import logging

import pytest
import torch
from torch import nn

from lowbit.estimators import ModuleObjective
from lowbit.estimators.autograd import Autograd
from lowbit.estimators.cdg import CDG
from lowbit.estimators.guided_es import GuidedES
from lowbit.estimators.multi_step_ste import MultiStepSTE
from lowbit.estimators.nes import NES
from lowbit.probe.scan import grid, scan, unit


class OldSign(torch.autograd.Function):
    """The form that most published code has."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def depends_on_values(x):
    return 2 * x if x.sum() > 0 else x


def outside_of_torch(x):
    return x + torch.from_numpy(x.detach().numpy().round())


def network(middle: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), middle, nn.Linear(4, 1)).double()


def objective_of(module: nn.Module) -> ModuleObjective:
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return ModuleObjective(module, lambda f: (f(x) - x[:, :1]).square().mean(), ["0.weight", "2.weight"])


HARD = {
    "forward(ctx, ...)": lambda: Applied(OldSign.apply),
    "values decide": lambda: Applied(depends_on_values),
    "numpy": lambda: Applied(outside_of_torch),
    "batch norm that learns": lambda: nn.BatchNorm1d(4),
}


@pytest.mark.parametrize("middle", HARD.values(), ids=HARD)
def test_modules_that_vmap_cannot_take_are_evaluated_one_by_one(middle, caplog):
    objective = objective_of(network(middle()))
    stacked, loop = (CDG(method=m).direction(objective, torch.Generator())[0] for m in ("stacked", "loop"))
    assert all(torch.equal(stacked[n], loop[n]) for n in loop)
    assert any(t.any() for t in loop.values())
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert record.getMessage().startswith("Sequential: points are evaluated one by one, since ")
    caplog.clear()
    seeded = torch.Generator().manual_seed(0)
    for estimator in (NES(samples=5), GuidedES(samples=5), MultiStepSTE()):
        direction = estimator.estimate(objective, seeded).direction
        assert all(t.isfinite().all() for t in direction.values())
    assert scan(objective.at(objective.parameters), unit(loop, "all"), grid(1e-3, 1.0, 9)).best_decrease > 0
    assert not caplog.records, "told more than once"


def test_modules_that_vmap_takes_are_evaluated_together(caplog):
    calls = []
    objective = objective_of(network(Applied(lambda x: calls.append(1) or torch.tanh(x))))
    CDG(method="stacked").direction(objective, torch.Generator())
    assert len(calls) < objective.size
    assert not caplog.records


@pytest.mark.parametrize("estimator", [Autograd(), CDG(), CDG(method="loop"), NES(samples=3)])
def test_batch_norms_in_training_mode_keep_their_statistics(estimator):
    module = network(nn.BatchNorm1d(4)).train()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    estimator.estimate(objective_of(module), torch.Generator().manual_seed(0))
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())
    assert module.training


def test_a_loss_that_is_wrong_in_any_way_says_what_is_wrong(caplog):
    objective = objective_of(network(nn.Linear(5, 4)))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        CDG().direction(objective, torch.Generator())
    with pytest.raises(RuntimeError, match="random operation"):
        CDG().direction(objective_of(network(nn.Dropout())), torch.Generator())
    assert not caplog.records


def test_parameters_must_exist_and_roundings_are_inside():
    module = network(nn.Tanh())
    with pytest.raises(ValueError, match=r"no such parameters: \['1.weight'\]; must be among 0.weight"):
        ModuleObjective(module, lambda f: f(torch.ones(1, 3)).sum(), ["1.weight"])
    objective = objective_of(module)
    with pytest.raises(ValueError, match="roundings inside"):
        objective.loss(objective.parameters, lambda z, quantizer: z)
