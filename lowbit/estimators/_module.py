"""The objective of any module and loss closure."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lowbit.estimators._base import Objective, Parameters, Rounding

log = logging.getLogger("lowbit")


class ModuleObjective(Objective):
    """The objective of any module.

    Every evaluation begins with the module's buffers as they are and leaves them so: batch norms in training mode
    normalise by the batch, and their running statistics stay. Many points are evaluated at once by `torch.func.vmap`;
    modules that it cannot take (a `torch.autograd.Function` of the form `forward(ctx, ...)`, batch norms in training
    mode, control flow that depends on values) are evaluated one after another, which the log says once.

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
        self._one_by_one = False

    def loss(self, parameters: Parameters, rounding: Rounding | None = None) -> Tensor:
        """The loss; the module keeps its own roundings, so `rounding` must be None.

        Raises:
            ValueError: when another rounding is asked for.
        """
        if rounding is not None:
            raise ValueError("a module has its roundings inside; build it with the surrogate that you want to measure")
        buffers = {name: buffer.clone() for name, buffer in self._module.named_buffers()}
        given = {**parameters, **buffers}
        return self._loss(lambda *args, **kwargs: functional_call(self._module, given, args, kwargs))

    @torch.no_grad()
    def losses(self, stacked: Parameters) -> Tensor:
        """The losses of K networks, shape (K,); one after another where they cannot be taken together.

        Raises:
            RuntimeError: when the loss draws random numbers, as dropout in training mode does.
        """
        if self._one_by_one:
            return self._each_loss(stacked)
        try:
            return super().losses(stacked)
        except RuntimeError as error:
            # What fails in both ways is the module's own fault: then the second error goes out.
            if isinstance(error, torch.OutOfMemoryError) or "random operation" in str(error):
                raise
            losses = self._each_loss(stacked)
            self._one_by_one = True
            reason = str(error).partition("\n")[0]
            log.warning("%s: points are evaluated one by one, since %s", type(self._module).__name__, reason)
            return losses

    def _each_loss(self, stacked: Parameters) -> Tensor:
        count = len(next(iter(stacked.values())))
        return torch.stack([self.loss({n: t[k] for n, t in stacked.items()}) for k in range(count)])

    def at(self, parameters: Parameters) -> "ModuleObjective":
        """The same loss at another point."""
        moved = ModuleObjective(self._module, self._loss, list(parameters))
        moved.parameters = {n: t.detach() for n, t in parameters.items()}
        moved._one_by_one = self._one_by_one
        return moved
