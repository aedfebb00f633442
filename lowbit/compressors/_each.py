"""Several gradients sent at once: one after another, or from all of them in one call where the compressor can."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lowbit.compressors._answer import Answer
from lowbit.compressors._base import Compressor, Sparse, demand_finite_sum
from lowbit.compressors._joined import Joins, together
from lowbit.errors import NonFiniteError
from lowbit.feedback._base import Feedback
from lowbit.feedback._memory import Entry
from lowbit.kernels.selection import takes


class _Wanted(NamedTuple):
    entry: Entry
    increment: Tensor
    k: int
    shape: torch.Size


class SendsEach(ABC):
    """`send_each` of a class that sends one gradient."""

    compressor: Compressor
    feedback: Feedback
    nonfinite: str
    _joins: Joins
    _sent: dict[str, Sparse]
    _refused: dict[str, tuple[Answer, int]]

    @abstractmethod
    def send(self, gradient: Tensor, name: str, density: float, *, epoch: int | None, scale: float) -> Sparse:
        """What is sent of a gradient."""

    @abstractmethod
    def take_back(self, sparse: Sparse, name: str) -> None:
        """Add entries to the residual of a name."""

    @abstractmethod
    def _ready(
        self, gradient: Tensor, name: str, density: float, epoch: int | None, scale: float
    ) -> tuple[Entry, Tensor, int]:
        """What is kept of a gradient, in its units; the gradient with one dimension; and k."""

    @abstractmethod
    def _demand_accepted(self, name: str) -> None:
        """Raise for what was refused and not reported yet."""

    def send_each(
        self, gradients: Mapping[str, Tensor], density: float, *, epoch: int | None = None, scale: float = 1.0
    ) -> dict[str, Sparse]:
        """What is sent of several gradients, by name, in their order: the bits that `send` gives for one after another.

        After an error the others are in their residuals as if nothing had been sent of them; what a feedback changes
        besides for entries that it sends (masked momentum) stays changed.

        With `hggtopk` and a residual alone, layers on a GPU take as many launches together as one of them, and the host
        waits once for all of them to know that they are finite.

        Args:
            gradients: by the names of their parameters, as for `send`; views of one tensor are not copied.
            density: as of `send`, for each.
            epoch: as of `send`.
            scale: as of `send`.

        Raises:
            NonFiniteError: with the name of the first gradient that has NaN or infinite entries, which has changed
                nothing.
            UserError: as of `send`.
        """
        for name in [name for name in gradients if name in self._refused]:
            self._demand_accepted(name)
        sent: dict[str, Sparse] = {}
        faults: dict[str, NonFiniteError] = {}
        try:
            self._send_jointly(gradients, density, epoch, scale, sent, faults)
            for name, gradient in gradients.items():
                if name not in sent and name not in faults:
                    try:
                        sent[name] = self.send(gradient, name, density, epoch=epoch, scale=scale)
                    except NonFiniteError as error:
                        faults[name] = error
            if faults:
                raise next(faults[name] for name in gradients if name in faults)
        except BaseException:
            for name, sparse in sent.items():
                self.take_back(sparse, name)
                self._sent.pop(name, None)
            raise
        return {name: sent[name] for name in gradients}

    def _send_jointly(
        self,
        gradients: Mapping[str, Tensor],
        density: float,
        epoch: int | None,
        scale: float,
        sent: dict[str, Sparse],
        faults: dict[str, NonFiniteError],
    ) -> None:
        """Put what is sent of those gradients that one call can select from into `sent`, refusals into `faults`."""
        kinds = {}
        for name, gradient in gradients.items() if self.feedback.buffers == ("residual",) else ():
            if self.compressor.joint(gradient) is not None:
                entry, flat, k = self._ready(gradient, name, density, epoch, scale)
                increment, residual = self.feedback.increment(flat, entry.buffers), entry.buffers["residual"]
                if k < len(flat) and takes(increment, residual):
                    kind = kinds.setdefault((increment.dtype, residual.dtype, residual.device), {})
                    kind[name] = _Wanted(entry, increment, k, gradient.shape)
        for wanted in kinds.values():
            if len(wanted) > 1:
                self._select_jointly(wanted, sent, faults)
            else:
                self._joins.part(*wanted)

    def _select_jointly(
        self, wanted: dict[str, _Wanted], sent: dict[str, Sparse], faults: dict[str, NonFiniteError]
    ) -> None:
        joined = self._joins.of({name: one.entry for name, one in wanted.items()})
        increments, ks = [one.increment for one in wanted.values()], tuple(one.k for one in wanted.values())
        increment, begins = together(increments)
        select = self.compressor.joint(increments[0])
        values, indices = select(joined.residual, increment, joined.histories, joined.segments(ks, begins))
        notes = joined.histories[:, self.compressor.refused]
        late = Answer(notes) if self.nonfinite == "late" else None
        refused = [0.0] * len(ks) if late else notes.tolist()
        for place, (name, own_values, own_indices) in enumerate(
            zip(wanted, values.split(ks), indices.split(ks), strict=True)
        ):
            one = wanted[name]
            sparse = Sparse(own_values, own_indices, one.shape)
            if refused[place] and self.nonfinite == "skip":
                sent[name] = sparse  # zeros
            elif refused[place]:
                try:
                    demand_finite_sum(joined.parts[place], one.increment)
                except NonFiniteError as error:
                    faults[name] = NonFiniteError(f"gradient of {name}: {error}")
            else:
                if late:
                    self._refused[name] = late, place
                self.feedback.sent(own_indices, one.entry.buffers)
                sent[name] = self._sent[name] = sparse
