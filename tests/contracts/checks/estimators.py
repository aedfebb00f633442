"""What every estimator owes: a direction of the objective's form, counted, from the generator alone, without traces."""

import torch
from torch import Tensor

from lowbit.estimators._base import Estimator, Objective, Parameters, Rounding
from lowbit.problems._base import stream
from lowbit.problems.stochastic_binary import StochasticBinary
from lowbit.problems.teacher_student import TeacherStudent
from lowbit.surrogates.window import Window

DETERMINISTIC = {"autograd", "cdg", "dg", "enumeration", "multi_step_dg", "multi_step_ste"}
OF_STOCHASTIC_NETWORKS = {"arm", "concrete", "disarm", "enumeration", "reinforce"}  # take no other objective
ALWAYS_STEPS = {"nes_max_point"}  # even where every point is as good as the next


def small_objective(
    dtype: torch.dtype = torch.float32, names: tuple[str, ...] = ("hidden1", "hidden3"), dim: int = 8
) -> Objective:
    """A student perceptron on 64 samples."""
    problem = TeacherStudent(dim=dim, dtype=str(dtype).removeprefix("torch."))
    return problem.objective(problem.start(0), Window(), stream(0, "contract"), 64, names)


def stochastic_objective() -> Objective:
    """A network of stochastic binary units on 8 samples, in float64."""
    problem = StochasticBinary(dim=3, layers=2)
    return problem.objective(problem.start(0), None, stream(0, "contract"), 8)


class Counting(Objective):
    """An objective without fast ways that counts the losses it is asked for."""

    elements = 2**14

    def __init__(self, inner: Objective, counter: list[int] | None = None):
        super().__init__(inner.parameters)
        self.surrogate = inner.surrogate
        self._inner, self._counter = inner, [0] if counter is None else counter

    @property
    def count(self) -> int:
        """Losses evaluated at this and at other points."""
        return self._counter[0]

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        self._counter[0] += 1
        return self._inner.loss(parameters, rounding)

    def losses(self, stacked: Parameters) -> Tensor:
        self._counter[0] += len(next(iter(stacked.values())))
        return self._inner.losses(stacked)

    def at(self, parameters: Parameters) -> "Counting":
        return Counting(self._inner.at(parameters), self._counter)


class Linear(Objective):
    """5 + sum of slope * theta: an objective whose gradient is known, with two tensors of odd sizes."""

    elements = 2**14

    def __init__(self, slope: float, start: Parameters | None = None):
        super().__init__(start or {"a": torch.linspace(-1, 1, 15).view(3, 5), "b": torch.ones(2)})
        self._slope = slope
        self.true = {n: slope * torch.cos(torch.arange(t.numel())).view_as(t) for n, t in self.parameters.items()}

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        return 5.0 + torch.stack([(self.true[n] * t).sum() for n, t in parameters.items()]).sum()

    def at(self, parameters: Parameters) -> "Linear":
        return Linear(self._slope, parameters)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _equal(left: Parameters, right: Parameters) -> bool:
    return all(torch.equal(left[n], right[n]) for n in left)


def check_form(estimator: Estimator, objective: Objective) -> None:
    """Names, order, shapes, dtype and device of the objective's tensors; finite; detached; a cost."""
    estimate = estimator.estimate(objective, _seeded(0))
    assert list(estimate.direction) == list(objective.parameters)
    for name, tensor in objective.parameters.items():
        part = estimate.direction[name]
        assert (part.shape, part.dtype, part.device) == (tensor.shape, tensor.dtype, tensor.device), name
        assert part.isfinite().all(), name
        assert not part.requires_grad, name
    assert estimate.is_step is type(estimator).is_step
    assert type(estimate.forward_evaluations) is int
    assert estimate.forward_evaluations > 0


def check_generator(estimator: Estimator, objective: Objective, deterministic: bool) -> None:
    """Equal seeds give equal bits whatever PyTorch's own generator holds, which stays as it is; others give others."""
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, _ = estimator.direction(objective, _seeded(0))
    assert torch.equal(torch.get_rng_state(), state), "draws from the global generator"
    torch.manual_seed(2)
    again, _ = estimator.direction(objective, _seeded(0))
    assert _equal(first, again), "not a function of the generator"
    other, _ = estimator.direction(objective, _seeded(1))
    assert _equal(first, other) is deterministic, "noise where none is claimed, or none where it is"


def check_leaves_no_trace(estimator: Estimator, objective: Objective) -> None:
    """Every tensor of the objective has the bits it had, takes no gradient, and is not the direction's own memory."""
    tensors = {"parameters": dict(objective.parameters), "all": dict(getattr(objective, "weights", {}))}
    copies = {k: {n: t.clone() for n, t in group.items()} for k, group in tensors.items()}
    direction, _ = estimator.direction(objective, _seeded(0))
    assert all(objective.parameters[n] is t for n, t in tensors["parameters"].items())
    assert all(_equal(tensors[k], copies[k]) for k in tensors), "moved the point"
    for part in direction.values():
        part.zero_()
    assert all(_equal(tensors[k], copies[k]) for k in tensors), "the direction is the point's own memory"
    assert all(t.grad is None and not t.requires_grad for t in objective.parameters.values())


def check_evaluations(estimator: Estimator, objective: Objective) -> None:
    """What is said to be spent is what a plain objective is asked for."""
    counting = Counting(objective)
    assert estimator.estimate(counting, _seeded(0)).forward_evaluations == counting.count


def check_constant_loss(estimator: Estimator) -> None:
    """Where the loss is constant, there is nowhere to go."""
    direction, _ = estimator.direction(Linear(0.0), _seeded(0))
    assert not any(t.any() for t in direction.values())


def check_descends(estimator: Estimator) -> None:
    """Where the loss is linear, it falls along minus the direction; a step lowers it by itself."""
    objective = Linear(1.0)
    direction, _ = estimator.direction(objective, _seeded(0))
    assert sum((direction[n] * g).sum() for n, g in objective.true.items()) > 0
