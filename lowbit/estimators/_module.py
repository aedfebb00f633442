"""The objective of any module and loss closure."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.func import functional_call

from lowbit.estimators._base import Objective, Parameters, Rounding


class ModuleObjective(Objective):
    """The objective of any module.

    Args:
        module: whose loss is asked for; put it into the mode (train or eval) that is meant.
        loss: given a callable with the module's signature, returns the loss, shape ().
        names: of the parameters to study; all that require gradients by default.

    Example:
        >>> import torch
        >>> layer = nn.Linear(2, 1)
        >>> objective = ModuleObjective(layer, lambda model: model(torch.ones(3, 2)).square().mean(), ["weight"])
        >>> sorted(objective.parameters)
        ['weight']
    """

    elements = 2**18

    def __init__(self, module: nn.Module, loss: Callable[[Callable], Tensor], names: Sequence[str] | None = None):
        trainable = {n: p for n, p in module.named_parameters() if p.requires_grad}
        unknown = set(names or ()) - trainable.keys()
        if unknown:
            raise ValueError(f"no such parameters: {sorted(unknown)}; must be among {', '.join(trainable)}")
        super().__init__({n: p for n, p in trainable.items() if names is None or n in names})
        self._module, self._loss = module, loss

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        """The loss; the module keeps its own roundings, so `rounding` must be None.

        Raises:
            ValueError: when another rounding is asked for.
        """
        if rounding is not None:
            raise ValueError("a module has its roundings inside; build it with the surrogate that you want to measure")
        return self._loss(lambda *args, **kwargs: functional_call(self._module, parameters, args, kwargs))

    def at(self, parameters: Parameters) -> "ModuleObjective":
        """The same loss at another point."""
        moved = ModuleObjective(self._module, self._loss, list(parameters))
        moved.parameters = {n: t.detach() for n, t in parameters.items()}
        return moved
