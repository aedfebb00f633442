"""A network in one state, taken part by part around the tensors under study."""

from torch import Tensor, nn

from lowbit.estimators._base import Parameters
from lowbit.layers.convert import bit_layers
from lowbit.problems._fast_sign import fast
from lowbit.problems._parts import parts_of
from lowbit.quantizers._base import Quantizer
from lowbit.quantizers.none import NoQuantizer
from lowbit.surrogates._base import Surrogate
from lowbit.surrogates.identity import Identity


class StudiedNetwork:
    """All of a network that the studied tensors do not change.

    Args:
        module: for gradients; its weights are overwritten.
        plain: the same for losses alone, where no surrogate plays a part.
        state: every tensor of the network.
        subset: studied tensor -> flat positions in it that may move, None for all.

    Attributes:
        smooth: whether nothing is rounded.
        layers: low-bit layers of the plain network by name.
        parts: of the plain network.
        first: number of the first part that holds a studied tensor.
    """

    def __init__(self, module: nn.Module, plain: nn.Module, state: Parameters, subset: dict[str, Tensor | None]):
        self.subset = subset
        self.studied = {name: state[name] for name in subset}
        self.layers = bit_layers(plain)
        roundings = [q for m in self.layers.values() for q in (m.weight_quantizer, m.activation_quantizer)]
        self.smooth = all(q.bits >= 32 for q in roundings)
        self.quantizers = {n: m.weight_quantizer for n, m in self.layers.items()}
        self.module, self.plain = (_rounded_once(m, state).requires_grad_(False) for m in (module, plain))
        for layer in self.layers.values():
            layer.activation_quantizer = fast(layer.activation_quantizer)
        self.parts = parts_of(self.plain, subset)
        self.first = next(number for number, part in enumerate(self.parts) if part.studied)

    def with_surrogate(self, surrogate: Surrogate) -> nn.Module:
        """The network for a forward pass whose roundings of activations have this derivative."""
        for layer in bit_layers(self.module).values():
            layer.surrogate = surrogate
        return self.module

    def weight(self, name: str, value: Tensor) -> Tensor:
        """What the network multiplies by when a studied tensor has a value; its rounding passes gradients on."""
        return self.quantized(name, self.whole(name, value))

    def whole(self, name: str, value: Tensor) -> Tensor:
        """A studied tensor with all its entries."""
        at, all_of_it = self.subset[name], self.studied[name]
        return value if at is None else all_of_it.flatten().index_copy(0, at, value).view_as(all_of_it)

    def quantized(self, name: str, whole: Tensor) -> Tensor:
        """A weight, or rows of one, as its layer rounds it."""
        return self._quantizer(name).fake_quantize(whole, Identity(), (0,))

    def _quantizer(self, name: str) -> Quantizer:
        return self.quantizers.get(name.rpartition(".")[0], NoQuantizer())


def _rounded_once(module: nn.Module, state: Parameters) -> nn.Module:
    """The module in a state, every low-bit weight replaced by its rounded value."""
    module.load_state_dict(state, strict=False)  # counters of batch norms are not part of it
    for layer in bit_layers(module).values():
        layer.weight = nn.Parameter(layer.weight_quantizer.fake_quantize(layer.weight.detach(), Identity(), (0,)))
        layer.weight_quantizer = NoQuantizer()
    return module
