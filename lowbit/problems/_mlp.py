"""The objective of a bias-free multi-layer perceptron with rounded activations and a mean squared error.

    a_0 = x,  z_l = a_(l-1) W_l^T,  a_l = round(z_l),  L = mean over samples and outputs of (a_n R^T - target)^2

Three ways to a coordinate difference agree here. The fast one uses that a weight W_l[o, i] moves unit o alone:
z_l[:, o] shifts by delta a_(l-1)[:, i], and only samples whose rounding changes matter. What a sample's loss becomes
when unit o takes another level does not depend on the weight that moved it, so d suffix passes serve d^2 weights.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lowbit.estimators._base import Objective, Parameters, Rounding
from lowbit.quantizers.uniform import Uniform
from lowbit.surrogates._base import Surrogate

_BLOCK = 2**20  # entries of a block of samples x weights


class MlpObjective(Objective):
    """Mean squared error of a perceptron against targets.

    Args:
        weights: name -> (outputs, inputs), in the order of the layers; the last one is the readout.
        names: of the tensors to study.
        inputs: shape (B, inputs of the first layer).
        targets: shape (B, outputs).
        quantizer: of the activations; None where nothing is rounded.
        surrogate: of the roundings.
        activation: elementwise, in place of the quantizer.
    """

    def __init__(
        self,
        weights: Parameters,
        names: Sequence[str],
        inputs: Tensor,
        targets: Tensor,
        quantizer: Uniform | None,
        surrogate: Surrogate,
        activation: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__({n: weights[n] for n in weights if n in names})
        self.weights = {n: t.detach() for n, t in weights.items()}
        *self.layers, self.last = weights
        self.readout = self.weights[self.last]
        self.inputs, self.targets = inputs, targets
        self.quantizer, self.surrogate, self.activation = quantizer, surrogate, activation
        self.smooth = quantizer is None
        self.elements = inputs.shape[0] * max(w.shape[0] for w in weights.values())

    def at(self, parameters: Parameters) -> "MlpObjective":
        """The same batch at another point."""
        weights = {**self.weights, **parameters}
        shape = (self.inputs, self.targets, self.quantizer, self.surrogate, self.activation)
        return MlpObjective(weights, tuple(self.parameters), *shape)

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        """Mean squared error."""
        a = self.inputs
        for name in self.layers:
            a = self._activate(F.linear(a, parameters.get(name, self.weights[name])), rounding)
        return F.mse_loss(F.linear(a, parameters.get(self.last, self.readout)), self.targets)

    def _activate(self, z: Tensor, rounding: Rounding | None = None) -> Tensor:
        if self.quantizer is None:
            return self.activation(z)
        if rounding is not None:
            return rounding(z, self.quantizer)
        return self.quantizer.fake_quantize(z, self.surrogate)

    def losses(self, stacked: Parameters) -> Tensor:
        """The losses of K networks by batched products."""
        first = self.layers[0]
        if first in stacked:
            count, outputs, _ = stacked[first].shape
            z = (self.inputs @ stacked[first].flatten(0, 1).T).view(-1, count, outputs).transpose(0, 1)
        else:
            z = self._trace[0][0].unsqueeze(0)
        return self._losses_from(z, stacked)

    def _losses_from(self, z: Tensor, stacked: Parameters) -> Tensor:
        """Losses from the first pre-activations (K or 1, B, units), which are used up."""
        a = self._levels(z)
        for name in self.layers[1:]:
            a = self._levels(torch.matmul(a, stacked.get(name, self.weights[name]).mT))
        return (torch.matmul(a, stacked.get(self.last, self.readout).mT) - self.targets).square_().mean((1, 2))

    def _levels(self, z: Tensor) -> Tensor:
        """Activations without a derivative."""
        if self.quantizer is None:
            return self.activation(z)
        if self.quantizer.levels == 2:
            return torch.copysign(self._one, z.add_(0.0))
        return self.quantizer.quantize(z).dequantize()

    @functools.cached_property
    def _one(self) -> Tensor:
        return self.inputs.new_ones(())

    def paired_losses(self, noise: Parameters, scales: Sequence[float]) -> Tensor:
        """Losses at plus and minus noise; the product of inputs and noise in the first layer serves all scales.

        Binary units are held as 0 and 1, so that one comparison in place rounds them: with h = (a + 1) / 2, the next
        pre-activation a W^T is not negative where h W^T is at least half the row sum of W.
        """
        first, count = self.layers[0], len(next(iter(noise.values())))
        moved = torch.matmul(self.inputs, noise[first].mT) if first in noise else None
        binary = self.quantizer is not None and self.quantizer.levels == 2
        deep = len(self.layers) > 1 and len(self.readout) == 1 and moved is not None and self.last not in noise
        losses_of = self._binary_losses if binary and deep else self._moved_losses
        pairs = losses_of(moved, noise, scales)
        return torch.stack([losses.expand(count) for losses in pairs]).view(len(scales), 2, count)

    def _moved_losses(self, moved: Tensor | None, noise: Parameters, scales: Sequence[float]) -> Iterator[Tensor]:
        """Losses of each scale and sign, whatever the activations."""
        base = self._trace[0][0].unsqueeze(0)
        for signed in _signed(scales):
            stacked = {n: torch.add(self.weights[n], noise[n], alpha=signed) for n in noise if n != self.layers[0]}
            z = base.clone() if moved is None else torch.add(base, moved, alpha=signed)
            yield self._losses_from(z, stacked)

    def _binary_losses(self, moved: Tensor, noise: Parameters, scales: Sequence[float]) -> Iterator[Tensor]:
        """Losses of each scale and sign of binary networks of one output, whose first pre-activations move."""
        from lowbit.kernels.binary_error import binary_error  # compilers take half a second to import

        base, buffer = self._trace[0][0], torch.empty_like(moved)
        halves = {n: t.sum(-1)[None, None] / 2 for n, t in self.weights.items()}
        moving = {n: t.sum(-1, keepdim=True).mT / 2 for n, t in noise.items() if n != self.layers[0]}
        readout, wanted = 2 * self.readout[0], self.targets[:, 0] + self.readout[0].sum()
        for signed in _signed(scales):
            at_least = torch.ge if signed > 0 else torch.le
            h = at_least(moved, base / -signed, out=buffer)
            for name in self.layers[1:]:
                weight, half = self.weights[name], halves[name]
                if name in noise:
                    weight = torch.add(weight, noise[name], alpha=signed)
                    half = torch.add(half, moving[name], alpha=signed)
                h = torch.matmul(h, weight.mT)
                if name != self.layers[-1]:
                    h.ge_(half)
            yield binary_error(h, half, readout, wanted)

    def line_losses(self, direction: Parameters, rates: Tensor) -> Tensor:
        """Losses along a line; pre-activations of the first layer are linear in the rate."""
        first, losses = self.layers[0], []
        base = self._trace[0][0]
        slope = F.linear(self.inputs, direction[first]) if first in direction else None
        for part in rates.to(base.dtype).split(self.stack_size):
            steps = part.view(-1, 1, 1)
            z = base.expand(len(part), *base.shape).clone() if slope is None else base - steps * slope
            stacked = {n: self.weights[n] - steps * direction[n] for n in direction if n != first}
            losses.append(self._losses_from(z, stacked))
        return torch.cat(losses)

    @property
    def outputs(self) -> Tensor:
        """What the network says at the point, shape (B, outputs)."""
        return self._trace[2]

    @functools.cached_property
    def _trace(self) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Pre-activations and activations of every layer, and the outputs, at the point."""
        zs, activations, a = [], [self.inputs], self.inputs
        for name in self.layers:
            zs.append(F.linear(a, self.weights[name]))
            a = self._levels(zs[-1].clone())
            activations.append(a)
        return zs, activations, F.linear(a, self.readout)

    def coordinate_losses(self, name: str, indices: Tensor, shifts: Sequence[float]) -> Tensor | None:
        """Losses with one weight moved, from the samples whose rounding it changes; None without rounding."""
        if self.quantizer is None or name == self.last:
            return None
        layer, inputs = self.layers.index(name), self.weights[name].shape[1]
        zs, activations, outputs = self._trace
        base = (outputs - self.targets).square().mean(1).double()
        total, count = base.mean(), len(base)
        below, result = activations[layer], torch.empty(len(indices), len(shifts), dtype=torch.float64)
        units = indices // inputs
        for unit in units.unique().tolist():
            where = (units == unit).nonzero().flatten()
            z, into = zs[layer][:, unit, None], below[:, indices[where] % inputs]
            gains = self._gains(layer, unit, base)
            size = max(1, _BLOCK // count)
            for part, columns in zip(where.split(size), into.split(size, 1), strict=True):
                for number, shift in enumerate(shifts):
                    result[part, number] = total + self._mean_gain(z, torch.add(z, columns, alpha=shift), gains)
        return result

    def _gains(self, layer: int, unit: int, base: Tensor) -> Tensor:
        """By how much each sample's loss grows when a unit takes each level, shape (B, levels), float64."""
        zs, activations, outputs = self._trace
        values = self.quantizer.values
        change = torch.stack([v - activations[layer + 1][:, unit] for v in values]).unsqueeze(-1)  # (levels, B, 1)
        rest = self.layers[layer + 1 :]
        if not rest:
            return self._sample_losses(outputs + change * self.readout[:, unit]).T - base[:, None]
        a = self._levels(zs[layer + 1] + change * self.weights[rest[0]][:, unit])
        for name in rest[1:]:
            a = self._levels(a @ self.weights[name].T)
        return self._sample_losses(a @ self.readout.T).T - base[:, None]

    def _sample_losses(self, outputs: Tensor) -> Tensor:
        return (outputs - self.targets).square().mean(-1).double()

    def _mean_gain(self, old: Tensor, new: Tensor, gains: Tensor) -> Tensor:
        """Mean over samples of the gain of the level that each column reaches, shape (columns,), float64."""
        if self.quantizer.levels == 2:
            up = old >= 0
            flipped = (new >= 0).ne_(up).to(self.inputs.dtype)
            gain = torch.where(up[:, 0], gains[:, 0], gains[:, 1])
            return (gain.to(self.inputs.dtype) @ flipped).double() / len(gain)
        return gains.gather(1, self.quantizer.index(new)).mean(0)


def _signed(scales: Sequence[float]) -> Iterator[float]:
    """Plus and minus each scale."""
    yield from (sign * scale for scale in scales for sign in (1.0, -1.0))
