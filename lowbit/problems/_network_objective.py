"""The loss of a network as a function of some of its weights, with everything that they do not change computed once.

A module that is an `nn.Sequential` is taken part by part. What the parts before the first studied one give is kept, so
that an evaluation begins there; K networks share the batch dimension in the parts behind it, where they have the same
weights. A weight w[o, i, y, x] of a convolution whose output is a term of its part's (`added`) moves channel o alone:

    incremental     part'[:, o] = others[:, o] + conv(a, w'[o]),    a the rounded input, w' with one entry moved

costs one channel of the layer instead of all, and the parts behind it in full. There it ends: the residual carries the
real-valued change of channel o past every rounding, so that the next part's sum has changed in all channels, for all
images. What is saved therefore grows with depth. In multiplications of an evaluation of the thin network of width 8 at
32x32 pixels: 8 % for the first unit, 52 % for the eighth, 93 % for the second last, whatever the number of weights.
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from lowbit.errors import SettingError
from lowbit.estimators._base import Objective, Parameters, Rounding
from lowbit.layers.convert import BitLayer
from lowbit.problems._parts import Part
from lowbit.problems._studied_network import StudiedNetwork
from lowbit.surrogates._base import Surrogate
from lowbit.surrogates.identity import Identity


class Batch:
    """Images and labels, and what the network makes of them before the studied tensors come in.

    Args:
        network: around the studied tensors.
        images: shape (B, C, H, W).
        labels: shape (B,).
    """

    def __init__(self, network: StudiedNetwork, images: Tensor, labels: Tensor):
        self.network, self.images, self.labels = network, images, labels

    @functools.cached_property
    def inputs(self) -> Tensor:
        """What the first studied part is given."""
        with torch.no_grad():
            x = self.images
            for part in self.network.parts[: self.network.first]:
                x = part.module(x)
        return x

    @functools.cached_property
    def elements(self) -> int:
        """Activations that a further network of a stack adds in the largest of its parts."""
        x, largest = self.inputs, self.inputs.numel()
        with torch.no_grad():
            for part in self.network.parts[self.network.first :]:
                x = part.module(x)
                largest = max(largest, x.numel())
        return largest

    def mean_losses(self, x: Tensor, after: int, count: int) -> Tensor:
        """Losses of `count` networks from the input of a part, samples of a network next to each other; float64."""
        for part in self.network.parts[after:]:
            x = part.module(x)
        each = F.cross_entropy(x.double(), self.labels.repeat(count), reduction="none")
        return each.view(count, -1).mean(1)


class NetworkObjective(Objective):
    """Mean cross-entropy in nats at values of the studied tensors; of a tensor with a subset these are a vector.

    Args:
        batch: of a network.
        surrogate: of the roundings of activations.
        parameters: studied tensor -> its values; those of the network's state by default.
    """

    def __init__(self, batch: Batch, surrogate: Surrogate, parameters: Parameters | None = None):
        network = batch.network
        if parameters is None:
            entries = network.subset.items()
            whole = network.studied
            parameters = {n: whole[n] if at is None else whole[n].flatten()[at] for n, at in entries}
        super().__init__(parameters)
        self._batch, self._network = batch, network
        self.smooth, self.surrogate = network.smooth, surrogate

    @property
    def elements(self) -> int:
        """Activations of one evaluation."""
        return self._batch.elements

    def at(self, parameters: Parameters) -> "NetworkObjective":
        """The same batch at another point."""
        return NetworkObjective(self._batch, self.surrogate, {**self.parameters, **parameters})

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        """The loss by the whole network.

        Raises:
            SettingError: when another rounding is asked for.
        """
        if rounding is not None:
            raise SettingError("a network has its roundings inside; measure other roundings on another problem")
        weights = {n: self._network.weight(n, t) for n, t in parameters.items()}
        logits = functional_call(self._network.with_surrogate(self.surrogate), weights, (self._batch.images,))
        return F.cross_entropy(logits.double(), self._batch.labels)

    @torch.no_grad()
    def losses(self, stacked: Parameters) -> Tensor:
        """The losses of K networks, from the first part that differs between them."""
        s = self._network
        count = len(next(iter(stacked.values())))
        shifted = [{n: s.weight(n, t[k]) for n, t in stacked.items()} for k in range(count)]
        last = max(number for number, part in enumerate(s.parts) if part.studied)
        networks = [self._batch.inputs] * count
        for part in s.parts[s.first : last + 1]:
            networks = [part.applied(x, weights) for x, weights in zip(networks, shifted, strict=True)]
        return self._batch.mean_losses(torch.cat(networks), last + 1, count)

    @torch.no_grad()
    def coordinate_losses(self, name: str, indices: Tensor, shifts: Sequence[float]) -> Tensor | None:
        """Losses with one weight of a convolution moved; None where that moves more than a channel."""
        s = self._network
        layer, part = s.layers.get(name.rpartition(".")[0]), s.parts[s.first]
        if len(self.parameters) > 1 or layer is None or not part.adds(name) or not self._rows_are_alone(name):
            return None
        whole = self._whole(name)
        a, others, now = self._around(layer, part, name)
        flat = indices if s.subset[name] is None else s.subset[name][indices]
        row_size = whole[0].numel()
        result = torch.empty(len(indices), len(shifts), dtype=torch.float64)
        for where in torch.arange(len(indices)).split(self.stack_size):
            channels, entries = flat[where] // row_size, flat[where] % row_size
            each = torch.arange(len(where))
            for number, shift in enumerate(shifts):
                rows = whole[channels].flatten(1)
                rows[each, entries] += shift
                moved = layer._conv_forward(a, s.quantized(name, rows.view(-1, *whole.shape[1:])), None)
                stack = now.expand(len(where), *now.shape).clone()
                stack[each, :, channels] = others[:, channels].transpose(0, 1) + moved.transpose(0, 1)
                result[where, number] = self._batch.mean_losses(stack.flatten(0, 1), s.first + 1, len(where))
        return result

    def _whole(self, name: str) -> Tensor:
        return self._network.whole(name, self.parameters[name])

    def _rows_are_alone(self, name: str) -> bool:
        """Whether the rounding of an output channel's weights does not depend on those of the others."""
        whole = self._whole(name)
        if len(whole) == 1:
            return True
        changed = whole.clone()
        changed[0] *= 2
        return torch.equal(self._network.quantized(name, changed)[1:], self._network.quantized(name, whole)[1:])

    def _around(self, layer: BitLayer, part: Part, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Rounded input of the layer; the other terms of the part's output; that output at the point."""
        seen: list[Tensor] = []
        weight = self._network.quantized(name, self._whole(name))
        handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        others = part.applied(self._batch.inputs, {name: torch.zeros_like(weight)})
        handle.remove()
        a = layer.activation_quantizer.fake_quantize(seen[0], Identity(), (0,))
        return a, others, others + layer._conv_forward(a, weight, None)
