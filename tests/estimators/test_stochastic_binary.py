"""Estimators for stochastic binary networks: what they refuse, what they cost, and identities between them."""

import pytest
import torch

from lowbit import catalog
from lowbit.errors import SettingError
from lowbit.estimators._stochastic_binary import states
from lowbit.estimators.arm import ARM
from lowbit.estimators.cdg import CDG
from lowbit.estimators.concrete import Concrete
from lowbit.estimators.disarm import DisARM
from lowbit.estimators.enumeration import Enumeration
from lowbit.estimators.reinforce import Reinforce
from lowbit.problems._base import stream
from lowbit.problems.rosenbrock import Rosenbrock
from lowbit.problems.stochastic_binary import StochasticBinary

NAMES = ("enumeration", "reinforce", "arm", "disarm", "concrete")
each = pytest.mark.parametrize("name", NAMES)


def network(names=None, batch_size=3, **settings):
    problem = StochasticBinary(**settings)
    return problem.objective(problem.start(0), None, stream(0, "batch"), batch_size, names)


def flat(direction):
    return torch.cat([t.flatten() for t in direction.values()])


@each
def test_other_problems_are_refused_with_the_one_that_fits(name):
    objective = Rosenbrock(pairs=1).objective(Rosenbrock(pairs=1).start(0))
    with pytest.raises(SettingError, match="use it on the problem stochastic_binary"):
        catalog.build("estimators", {"name": name}).direction(objective, torch.Generator())


@each
@pytest.mark.parametrize("names", [None, ("layer2",), ("layer1", "layer3")])
def test_the_direction_is_of_the_studied_layers_and_changes_nothing(name, names):
    objective = network(names)
    before = {n: t.clone() for n, t in objective.parameters.items()}
    estimator = catalog.build("estimators", {"name": name})
    one, again = (estimator.estimate(objective, stream(1)) for _ in range(2))
    assert one.direction.keys() == before.keys()
    for key, tensor in before.items():
        assert one.direction[key].shape == tensor.shape
        assert one.direction[key].any()
        assert torch.equal(one.direction[key], again.direction[key])
        assert torch.equal(objective.parameters[key], tensor)


def test_evaluations_are_counted_by_definition():
    whole, part, generator = network(), network(("layer2",)), torch.Generator()
    assert Enumeration().direction(whole, generator)[1] == 2**15
    assert Reinforce(samples=7).direction(whole, generator)[1] == 7
    assert Concrete(samples=7).direction(whole, generator)[1] == 7
    assert ARM(samples=7).direction(whole, generator)[1] == 28
    assert DisARM(samples=7).direction(part, generator)[1] == 14


def test_enumeration_is_the_slope_of_the_exact_loss():
    objective = network()
    exact = flat(Enumeration().direction(objective, torch.Generator())[0])
    sloped = flat(CDG(epsilon=1e-4).direction(objective, torch.Generator())[0])
    torch.testing.assert_close(exact, sloped, rtol=0, atol=1e-8)  # epsilon^2, and 1e-16 / epsilon of rounding
    assert exact.abs().max() > 0.01


def test_a_block_of_samples_is_the_mean_of_its_samples():
    for estimator in (Reinforce(samples=6), ARM(samples=6), DisARM(samples=6), Concrete(samples=6)):
        whole, blocks = network(), network()
        blocks.elements = 2**21  # two networks at once
        draws = whole.uniforms(6, stream(2))
        for objective in (whole, blocks):
            objective.uniforms = _Rows(draws)
        one, other = (flat(estimator.direction(o, stream(2))[0]) for o in (whole, blocks))
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


class _Rows:
    """Hands out the same rows, however many are asked for at once."""

    def __init__(self, draws):
        self.draws, self.start = draws, 0

    def __call__(self, count, generator):
        self.start += count
        return [layer[self.start - count : self.start] for layer in self.draws]


@pytest.mark.parametrize("logit", [-3.0, -0.4, 0.0, 0.4, 3.0])
def test_disarm_is_arm_averaged_over_what_gives_the_same_pair(logit):
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    logits = torch.full_like(u, logit)
    bits, mirrored = u < logits.sigmoid(), 1 - u < logits.sigmoid()
    weights = {kind: kind().weight(logits, u, bits, mirrored) for kind in (ARM, DisARM)}
    for pair in ((False, True), (True, False)):
        same = (bits == pair[0]) & (mirrored == pair[1])
        assert same.any()
        assert weights[DisARM][same].unique().numel() == 1
        # The midpoint rule over an interval whose ends are off by half a step.
        assert float(weights[ARM][same].mean()) == pytest.approx(float(weights[DisARM][same][0]), abs=1e-5)
    assert not weights[DisARM][bits == mirrored].any()


def test_states_are_drawn_with_their_probability():
    objective = network(batch_size=2)
    run = objective.run(objective.uniforms(40_000, stream(3)))
    below = objective.inputs.expand(40_000, 2, 5)
    for layer, (bits, logits) in enumerate(zip(run.bits, run.logits, strict=True)):
        torch.testing.assert_close(logits, objective.logits({}, layer, below))
        error = (bits.double() - logits.sigmoid()).mean((0, 1))
        assert error.abs().max() < 5 * 0.5 / 80_000**0.5  # 5 standard errors
        below = states(bits, torch.float64)
    torch.testing.assert_close(run.losses, objective.sample_losses(below))
    exact = objective.loss(objective.parameters)
    assert abs(run.losses.mean() - exact) < 5 * run.losses.std() / 80_000**0.5


def test_a_baseline_of_one_sample_is_refused():
    with pytest.raises(SettingError, match="must be 2 or more"):
        Reinforce(samples=1, baseline="leave_one_out").direction(network(), torch.Generator())


def test_a_baseline_takes_each_sample_by_the_others():
    objective, estimator = network(), Reinforce(samples=4, baseline="leave_one_out")
    uniforms = objective.uniforms(4, stream(4))
    run, gradients = estimator.logit_gradients(objective, uniforms)
    for k in range(4):
        others = [j for j in range(4) if j != k]
        expected = run.losses[k] - run.losses[others].mean(0)
        score = run.bits[1][k].double() - run.logits[1][k].sigmoid()
        torch.testing.assert_close(gradients[1][k], expected[:, None] * score)


def relative_error(estimator, repeats):
    """Of the mean of many estimates, and what sampling leaves of it."""
    objective = network()
    truth = flat(objective.true_gradient())
    estimates = torch.stack([flat(estimator.direction(objective, stream(5, r))[0]) for r in range(repeats)])
    noise = estimates.var(0).sum().sqrt() / repeats**0.5
    return float((estimates.mean(0) - truth).norm() / truth.norm()), float(noise / truth.norm())


def test_the_bias_of_relaxed_states_falls_with_the_temperature():
    warm, cold = (relative_error(Concrete(temperature=t, samples=2000), 10) for t in (1.0, 0.1))
    assert warm[0] > 5 * warm[1]  # bias, not sampling
    assert cold[0] < 0.5 * warm[0]


def test_hard_states_are_the_bits_of_the_other_estimators():
    objective = network()
    uniforms = objective.uniforms(50, stream(6))
    losses = Concrete(hard=True, temperature=0.3)._losses(objective, objective.parameters, uniforms)
    torch.testing.assert_close(losses, objective.run(uniforms).losses)
    soft = Concrete(temperature=1e-7)._losses(objective, objective.parameters, uniforms)
    torch.testing.assert_close(soft, losses, rtol=1e-4, atol=1e-4)
