"""A student perceptron learns a fixed random teacher of its own shape on Gaussian inputs.

Three bias-free layers of `dim` units with rounded activations and a linear readout to one number, PyTorch's default
initialisation, loss = mean squared error. Weights are real: the roundings are in the activations alone.

**Differs from the paper**: the notes do not say the shape of the readout; one output reproduces the size of their
losses (0.7 at the start, spread over initialisations). The readout takes part in pretraining, and is held afterwards.

**Reference**: for the task H. Kim, K. Kim, J. Kim, J.-J. Kim, BinaryDuo, 2020, arXiv 2002.06517.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F

from lowbit.errors import SettingError
from lowbit.estimators._base import Parameters
from lowbit.problems._base import Problem, stream
from lowbit.problems._mlp import MlpObjective
from lowbit.quantizers.uniform import Uniform
from lowbit.surrogates._base import Surrogate
from lowbit.surrogates.window import Window
from lowbit.variant import Count, NonNegativeInt, Positive, variant

_LEVELS = {"binary": 2, "ternary": 3, "2bit": 4}
_SMOOTH = {"full": F.hardtanh, "tanh": torch.tanh}


@variant
class TeacherStudent(Problem):
    """Perceptron against perceptron.

    Args:
        dim: units of each layer, and inputs.
        layers: hidden layers.
        activation: binary, ternary or 2bit rounding to levels in [-1, 1]; full is the same clip without rounding; tanh
            is smooth.
        gain: factor on the hidden weights of the default initialisation; 3^(1/2) gives pre-activations of unit
            variance, without which ternary activations die out from layer to layer.
        start_from: a fresh initialisation, or one trained by the clipped straight-through estimator.
        pretrain_batches: of the pretraining.
        pretrain_batch_size: samples of each.
        pretrain_lr: of Adam, falling to 0 by a cosine.
        dtype: of weights and inputs.
    """

    dim: Count = 16
    layers: Count = 3
    activation: Literal["binary", "ternary", "2bit", "full", "tanh"] = "binary"
    gain: Positive = 1.0
    start_from: Literal["raw", "pretrained"] = "raw"
    pretrain_batches: NonNegativeInt = 2000
    pretrain_batch_size: Count = 16000
    pretrain_lr: Positive = 0.005
    dtype: Literal["float32", "float64"] = "float32"

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that estimators may study."""
        return tuple(f"hidden{number}" for number in range(1, self.layers + 1))

    def start(self, seed: int) -> Parameters:
        """`student.*` and `teacher.*`, each hidden layers and a readout."""
        tensors = {}
        for net in ("teacher", "student"):
            draws = stream(seed, "initial", net)
            for name in (*self.names, "readout"):
                outputs, gain = (1, 1.0) if name == "readout" else (self.dim, self.gain)
                bound = gain / math.sqrt(self.dim)
                uniform = torch.rand(outputs, self.dim, generator=draws, dtype=torch.float64)
                tensors[f"{net}.{name}"] = ((2 * uniform - 1) * bound).to(self._dtype)
        return self._pretrained(tensors, seed) if self.start_from == "pretrained" else tensors

    def objective(
        self,
        tensors: Parameters,
        surrogate: Surrogate,
        generator: torch.Generator,
        batch_size: int,
        names: tuple[str, ...] | None = None,
    ) -> MlpObjective:
        """The loss on a batch of standard normal inputs."""
        unknown = sorted(set(names or ()) - {*self.names, "readout"})
        if unknown:
            raise SettingError(f"tensors: no such tensors {unknown}; must be among {', '.join(self.names)}, readout")
        inputs = torch.randn(batch_size, self.dim, generator=generator, dtype=self._dtype)
        net = {whose: self._net(tensors, whose) for whose in ("student", "teacher")}
        shape = {"quantizer": self._quantizer, "surrogate": surrogate, "activation": _SMOOTH.get(self.activation)}
        teacher = MlpObjective(net["teacher"], (), inputs, inputs.new_zeros(()), **shape)
        return MlpObjective(net["student"], names or self.names, inputs, teacher.outputs, **shape)

    @property
    def _dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def _quantizer(self) -> Uniform | None:
        levels = _LEVELS.get(self.activation)
        return Uniform(levels=levels) if levels else None

    def _net(self, tensors: Parameters, whose: str) -> Parameters:
        return {name: tensors[f"{whose}.{name}"] for name in (*self.names, "readout")}

    def _pretrained(self, tensors: Parameters, seed: int) -> Parameters:
        """Adam on the gradient of the clipped straight-through estimator, readout included."""
        student = {n: t.clone().requires_grad_() for n, t in self._net(tensors, "student").items()}
        optimizer = torch.optim.Adam(student.values(), lr=self.pretrain_lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, self.pretrain_batches))
        for step in range(self.pretrain_batches):
            draws = stream(seed, "pretrain", step)
            batch = self.objective(tensors, Window(), draws, self.pretrain_batch_size, tuple(student))
            optimizer.zero_grad()
            batch.loss(student).backward()
            optimizer.step()
            schedule.step()
        return {**tensors, **{f"student.{n}": t.detach() for n, t in student.items()}}
