"""A network as a sequence of parts, and which of them hold the tensors under study."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call

from lowbit.estimators._base import Parameters


@dataclass(frozen=True)
class Part:
    """One part: given what the part before it gives.

    Args:
        module: that computes it.
        prefix: of the names of its tensors in the network.
        studied: names in the network of its tensors that are studied.
    """

    module: nn.Module
    prefix: str
    studied: tuple[str, ...]

    def applied(self, x: Tensor, weights: Parameters) -> Tensor:
        """Its output with some of its tensors replaced.

        Args:
            x: its input.
            weights: by their names in the network; those of other parts are passed over.
        """
        own = {n.removeprefix(self.prefix): t for n, t in weights.items() if n.startswith(self.prefix)}
        return functional_call(self.module, own, (x,)) if own else self.module(x)

    def adds(self, name: str) -> bool:
        """Whether a tensor is the weight of the layer whose output is a term of this part's."""
        added = getattr(self.module, "added", None)
        return added is not None and name == f"{self.prefix}{added}.weight"


def parts_of(module: nn.Module, studied: Iterable[str]) -> tuple[Part, ...]:
    """The parts of a network: the members of a sequence, or the network as one.

    Args:
        module: the network.
        studied: names of tensors in it.
    """
    members = (
        [(f"{n}.", m) for n, m in module.named_children()] if isinstance(module, nn.Sequential) else [("", module)]
    )
    return tuple(Part(m, prefix, tuple(n for n in studied if n.startswith(prefix))) for prefix, m in members)
