"""With no sign in the network, the identity straight-through estimator is backpropagation, bit for bit."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lowbit.estimators import ModuleObjective
from lowbit.estimators.autograd import Autograd
from lowbit.layers.bit_linear import BitLinear
from lowbit.problems._base import stream
from lowbit.problems.teacher_student import TeacherStudent
from lowbit.quantizers.none import NoQuantizer
from lowbit.surrogates.identity import Identity


def backpropagated(weights, inputs, targets, activation):
    """Gradients of the layers' weights, by PyTorch alone."""
    leaves = {n: t.clone().requires_grad_() for n, t in weights.items()}
    *hidden, last = leaves.values()
    x = inputs
    for weight in hidden:
        x = activation(F.linear(x, weight))
    loss = F.mse_loss(F.linear(x, last), targets)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize(("name", "activation"), [("full", F.hardtanh), ("tanh", torch.tanh)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_of_a_perceptron_without_rounding(name, activation, dtype):
    problem = TeacherStudent(dim=8, activation=name, dtype=dtype, gain=3.0)  # wide enough for both sides of the clip
    objective = problem.objective(problem.start(0), Identity(), stream(0, "batch"), 100)
    direction, evaluations = Autograd().direction(objective, torch.Generator())
    expected = backpropagated(objective.weights, objective.inputs, objective.targets, activation)
    assert evaluations == 1
    assert list(direction) == ["hidden1", "hidden2", "hidden3"]
    for tensor, gradient in direction.items():
        assert torch.equal(gradient, expected[tensor])
        assert gradient.abs().max() > 0
    rounded = TeacherStudent(dim=8, activation="binary", dtype=dtype, gain=3.0)
    other = Autograd().direction(rounded.objective(rounded.start(0), Identity(), stream(0, "batch"), 100), None)[0]
    assert not torch.allclose(other["hidden1"], direction["hidden1"], rtol=0.1), "a sign makes no difference"


def test_of_low_bit_layers_that_round_nothing():
    torch.manual_seed(0)
    parts = {"weight_quantizer": NoQuantizer(), "activation_quantizer": NoQuantizer(), "surrogate": Identity()}
    module = nn.Sequential(BitLinear(5, 6, norm=False, bias=False, **parts), nn.Tanh(), nn.Linear(6, 2, bias=False))
    inputs, targets = torch.randn(30, 5), torch.randn(30, 2)
    objective = ModuleObjective(module, lambda f: F.mse_loss(f(inputs), targets))
    direction, _ = Autograd().direction(objective, torch.Generator())
    expected = backpropagated(dict(module.named_parameters()), inputs, targets, torch.tanh)
    assert all(torch.equal(direction[n], gradient) for n, gradient in expected.items())
    assert len(direction) == 2
