"""A compressor and a feedback with the memory of one model: compensate, select, update."""

from typing import Literal

import torch
from torch import Tensor

from lowbit.compressors._answer import Answer
from lowbit.compressors._base import Compressor, Sparse, demand_finite_sum, entries_of
from lowbit.compressors._each import SendsEach
from lowbit.compressors._joined import Joins
from lowbit.errors import NonFiniteError, UserError
from lowbit.feedback._base import Feedback
from lowbit.feedback._memory import Entry, Memory
from lowbit.kernels.selection import largest_magnitude


class GradientCompressor(SendsEach):
    """Sends few entries of every gradient, and keeps what it does not send as its feedback says.

    Args:
        compressor: what chooses entries.
        feedback: what is kept of the others.
        nonfinite: what a gradient with NaN or infinite entries does: `raise`; `skip`, which sends zeros at the first k
            indices; or `late`, which does the same where the compressor notes a refusal in its history, on any device,
            and raises at the next `send` under that name, at `check` or at `state_dict`; other compressors raise at
            once. None of them changes what is kept.
    """

    def __init__(
        self, compressor: Compressor, feedback: Feedback, nonfinite: Literal["raise", "skip", "late"] = "raise"
    ):
        self.compressor = compressor
        self.feedback = feedback
        self.nonfinite = nonfinite
        self.memory = Memory(feedback.buffers)
        self._sent: dict[str, Sparse] = {}
        self._refused: dict[str, tuple[Answer, int]] = {}
        self._joins = Joins()

    def send(
        self, gradient: Tensor, name: str, density: float, *, epoch: int | None = None, scale: float = 1.0
    ) -> Sparse:
        """What is sent of a gradient.

        Args:
            gradient: any shape and strides; not changed.
            name: of its parameter: the same at every step, one for each.
            density: fraction of entries to send, in (0, 1].
            epoch: of training, from 0, for a feedback whose density warms up; None for the density as given.
            scale: loss scale that the gradient is in units of; what is kept follows it.

        Returns:
            Values of the gradient's dtype, of float32 for narrower ones.

        Raises:
            NonFiniteError: for NaN or infinite entries, with the name; nothing has changed then. With `late` also for
                those of the call before.
            UserError: for a density out of range, or another shape than the name had before.
        """
        if name in self._refused:
            self._demand_accepted(name)
        entry, flat, k = self._ready(gradient, name, density, epoch, scale)
        try:
            values, indices = self._select(flat, entry, k, name)
        except NonFiniteError as error:
            if self.nonfinite != "skip":
                raise NonFiniteError(f"gradient of {name}: {error}") from None
            dtype = torch.promote_types(gradient.dtype, torch.float32)
            values = torch.zeros(k, dtype=dtype, device=gradient.device)
            indices = torch.arange(k, dtype=torch.int32, device=gradient.device)
            return Sparse(values, indices, gradient.shape)
        sparse = Sparse(values, indices, gradient.shape)
        if entry.buffers:
            self._sent[name] = sparse
        return sparse

    def _ready(
        self, gradient: Tensor, name: str, density: float, epoch: int | None, scale: float
    ) -> tuple[Entry, Tensor, int]:
        """What is kept of a gradient, in its units; the gradient with one dimension; and k."""
        k = entries_of(density if epoch is None else self.feedback.density(density, epoch), gradient.numel())
        known = self.memory.entries.get(name)
        entry = self.memory.of(name, gradient, self.compressor.start(name) if known is None else known.history)
        if scale != entry.scale:
            entry.rescale(scale)
            self._changed(entry)
        flat = gradient.detach() if gradient.requires_grad else gradient
        return entry, flat if flat.ndim == 1 else flat.reshape(-1), k

    def check(self) -> None:
        """Wait for what was sent, and raise for what was refused and not reported yet; for `late`.

        Raises:
            NonFiniteError: with the name.
        """
        for name in list(self._refused):
            self._demand_accepted(name)

    def _demand_accepted(self, name: str) -> None:
        answer, place = self._refused.pop(name)
        if answer.number(place):
            raise NonFiniteError(
                f"gradient of {name}, the last one sent: NaN or infinite entries, or a sum with the residual that "
                "overflows; zeros were sent for it; lower the learning rate or the loss scale"
            )

    def _select(self, flat: Tensor, entry: Entry, k: int, name: str) -> tuple[Tensor, Tensor | None]:
        buffers = entry.buffers
        if not buffers:
            flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
            return self.compressor.select(flat, k, entry.history)
        residual = buffers["residual"]
        others = len(buffers) > 1
        if others:
            demand_finite_sum(residual, flat)
        # The increment changes the others before a compressor can look at it.
        before = {n: t.clone() for n, t in buffers.items() if n != "residual"} if _may_overflow(flat, buffers) else {}
        increment, refused = self.feedback.increment(flat, buffers), self.compressor.refused
        try:
            sent = self.compressor.select_from(residual, increment, k, entry.history)
            if refused is not None:
                if self.nonfinite == "late" and not others:
                    self._refused[name] = Answer(entry.history[refused : refused + 1]), 0
                elif entry.history.tolist()[refused]:  # a third of the time of indexing the tensor
                    demand_finite_sum(residual, increment)
        except NonFiniteError:
            for other, kept in before.items():
                buffers[other].copy_(kept)
            raise
        self.feedback.sent(sent[1], buffers)
        return sent

    def compress(self, tensor: Tensor, name: str, ratio: float = 0.05, inplace: bool = False):
        """The call of the field's code: (tensor, indexes, values).

        Args:
            tensor: gradient, any shape.
            name: of its layer.
            ratio: density.
            inplace: whether the tensor becomes the compensated gradient, as in that code.

        Returns:
            The tensor itself, int64 indexes (None for all entries), and values.
        """
        sparse = self.send(tensor, name, ratio)
        if inplace:
            kept = self.memory.entries[name].buffers.get("residual")
            with torch.no_grad():
                tensor.copy_(sparse.dense() if kept is None else sparse.dense() + kept.view(tensor.shape))
        return tensor, None if sparse.indices is None else sparse.indices.long(), sparse.values

    def decompress(self, values: Tensor, indexes: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """The dense tensor of what was sent; values of repeated indexes are added."""
        return Sparse(values, indexes, torch.Size(shape)).dense()

    @torch.no_grad()
    def add_residuals(self, included_indexes: Tensor, name: str) -> None:
        """Take back into the residual what was sent last under a name but is not among the included indexes.

        Raises:
            UserError: when nothing was sent under that name, or nothing is kept.
        """
        if name not in self._sent:
            raise UserError(
                f"add_residuals({name!r}): nothing was sent under this name; call compress with a feedback first"
            )
        sparse = self._sent[name]
        indices = torch.arange(sparse.numel, device=sparse.values.device) if sparse.indices is None else sparse.indices
        refused = ~torch.isin(indices.long(), included_indexes.long())
        self.take_back(Sparse(sparse.values[refused], indices[refused], sparse.shape), name)

    @torch.no_grad()
    def take_back(self, sparse: Sparse, name: str) -> None:
        """Add entries to the residual of a name, in units of the gradient sent last; without a residual they are lost.

        Args:
            sparse: of the shape of the gradient, on its device.
            name: something was sent under it.
        """
        residual = self.memory.entries[name].buffers.get("residual")
        if residual is None:
            return
        if sparse.indices is None:
            residual.add_(sparse.values)
        else:
            residual.index_add_(0, sparse.indices, sparse.values)
        self._changed(self.memory.entries[name], sparse.indices)

    def _changed(self, entry: Entry, indices: Tensor | None = None) -> None:
        """Tell the compressor that the residual was changed, at indices or everywhere."""
        residual = entry.buffers.get("residual")
        if residual is not None:
            self.compressor.changed(residual if indices is None else residual[indices], entry.history)

    def stats(self, name: str) -> dict[str, float]:
        """Entries sent last under a name, the smallest magnitude among them, and what the compressor counts."""
        numbers = self.compressor.stats(self.memory.entries[name].history)
        if name in self._sent:
            values = self._sent[name].values
            numbers |= {"nnz": float(values.numel()), "threshold": float(values.abs().min()) if values.numel() else 0.0}
        return numbers

    def clear(self, name: str | None = None) -> None:
        """Forget what is kept of one parameter, or of all."""
        self.memory.clear(name)
        if name is None:
            self._joins.clear()
        else:
            self._joins.part(name)
        for kept in (self._sent, self._refused):
            if name is None:
                kept.clear()
            else:
                kept.pop(name, None)

    def state_dict(self) -> dict[str, Tensor]:
        """What is kept, as tensors; of this process alone.

        Raises:
            NonFiniteError: for what was refused and not reported yet; for `late`.
        """
        self.check()
        return self.memory.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state: the same bits as without the interruption."""
        self.memory.load_state_dict(state)
        self._joins.clear()
        self._sent.clear()
        self._refused.clear()
        self.check_histories()

    @torch.no_grad()
    def check_histories(self) -> None:
        """Make histories hold for residuals that were changed from outside."""
        for entry in self.memory.entries.values():
            self._changed(entry)


def _may_overflow(gradient: Tensor, buffers: dict[str, Tensor]) -> bool:
    """Whether the sum of a residual and an increment may be infinite, with buffers from which an increment is made."""
    if len(buffers) < 2:  # only the residual: a compressor looks for itself
        return False
    most = largest_magnitude(gradient) + sum(largest_magnitude(tensor) for tensor in buffers.values())
    return most >= 0.25 * torch.finfo(buffers["residual"].dtype).max
