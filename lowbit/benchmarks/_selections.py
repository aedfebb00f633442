"""How good one selection of entries is, against the k largest of what it was chosen from."""

import torch
from torch import Tensor

from lowbit.benchmarks._timing import WrongResultError
from lowbit.compressors import GradientCompressor, Sparse, entries_of
from lowbit.compressors._random import RandomCompressor


def send_and_judge(
    compressor: GradientCompressor, gradient: Tensor, name: str, density: float, label: str
) -> dict[str, float]:
    """Send a gradient, which changes the compressor's memory as ever, and measure what was chosen.

    Args:
        compressor: which sends.
        gradient: flat.
        name: of its parameter.
        density: asked for.
        label: of the compressor, in errors.

    Returns:
        nnz_over_k; threshold_error, |T - T_k| / T_k of the smallest magnitude sent and the k-th largest there was, at
        the k that was asked for (infinite when nothing was sent); energy_captured, the norm of what was sent over the
        norm of what it was chosen from; recall, the share of the k largest that was sent.

    Raises:
        WrongResultError: when entries are lost or changed, or an exact selection is not the top-k.
    """
    entry = compressor.memory.entries.get(name)
    kept = None if entry is None else entry.buffers.get("residual")
    before = gradient.clone() if kept is None else kept + gradient
    k = entries_of(density, gradient.numel())
    largest = before.abs().topk(k)
    sparse = compressor.send(gradient, name, density)
    _demand_nothing_lost(label, compressor, sparse, name, before)
    sent = sparse.values.abs()
    promised = compressor.compressor.exact and not isinstance(compressor.compressor, RandomCompressor)
    if promised and not torch.equal(sent.sort(descending=True).values, largest.values):
        raise WrongResultError(f"{label}: not the {k} largest; no speed is reported")
    least, whole = float(largest.values[-1]), float(before.double().norm())
    return {
        "nnz_over_k": sent.numel() / k,
        "threshold_error": _threshold_error(sent, least),
        "energy_captured": float(sent.double().norm()) / whole if whole else 1.0,
        "recall": _recall(sparse, largest.indices),
    }


def _threshold_error(sent: Tensor, least: float) -> float:
    if not sent.numel():
        return float("inf")
    found = float(sent.min())
    return abs(found / least - 1) if least else (0.0 if found == 0 else float("inf"))


def _recall(sparse: Sparse, wanted: Tensor) -> float:
    """The lowest index first among equals is not torch.topk's rule, so that ties count as missed."""
    if sparse.indices is None:
        return 1.0
    chosen = torch.zeros(sparse.numel, dtype=torch.bool, device=wanted.device)
    chosen[sparse.indices] = True
    return int(chosen[wanted].count_nonzero()) / wanted.numel()


def _demand_nothing_lost(label: str, compressor: GradientCompressor, sparse: Sparse, name: str, before: Tensor) -> None:
    buffers = compressor.memory.entries[name].buffers
    if buffers:
        right = torch.equal(sparse.dense() + buffers["residual"], before)
    else:
        right = torch.equal(sparse.values, before if sparse.indices is None else before[sparse.indices])
    if not right:
        raise WrongResultError(f"{label}: what is sent and what is kept are not the sum; no speed is reported")
