"""Compressors against `torch.topk(sorted=False)` with error feedback, and against `residual.add_(gradient)`, the floor.

`ratio_to_topk` is how many times faster than the former, `ratio_to_floor` how many times slower than the latter, both
in processor time, whatever the number of threads. Gradients rotate through several buffers, and residuals have settled
before anything is measured. `threshold_error` is |T - T_k| / T_k of the smallest magnitude sent and the k-th largest
there was, at the k that was asked for; `energy_captured` is the norm of what was sent in units of the norm of what it
was chosen from.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lowbit import catalog
from lowbit.benchmarks._timing import Row, WrongResultError, ratio_rows, seconds_side_by_side
from lowbit.compressors import HISTORICAL, GradientCompressor, entries_of, make
from lowbit.compressors._random import RandomCompressor
from lowbit.train.machine import keep_freed_memory

SIZES, DENSITIES = (10_000, 100_000, 1_000_000, 10_000_000), (0.001, 0.01, 0.05)
NAMES = tuple(dict.fromkeys(["hggtopk", *HISTORICAL, *catalog.available("compressors")]))
_ENTRIES, _TOGETHER = 40_000_000, 100_000  # entries in all rounds of a contestant, and at least in one measurement
_BUFFERS, _SETTLE = 4, 30


def cases(
    quick: bool,
    sizes: tuple[int, ...] = SIZES,
    densities: tuple[float, ...] = DENSITIES,
    names: tuple[str, ...] = NAMES,
) -> Iterator[Row]:
    """Measure every case.

    Args:
        quick: the smallest size and fewer rounds.
        sizes: numbers of entries.
        densities: fractions to send.
        names: of compressors, historical or variants.

    Raises:
        WrongResultError: when entries are lost or changed, or an exact selection is not the top-k.
    """
    keep_freed_memory()
    for size in sizes[:1] if quick else sizes:
        rounds = 5 if quick else max(7, min(101, _ENTRIES // size))
        for kind in ("normal", "student_t2"):
            for density in densities:
                yield from _case(size, density, kind, names, rounds)


def gradients(size: int, kind: str) -> list[Tensor]:
    """Several gradients: normal, or Student's t with 2 degrees of freedom, whose variance is infinite."""
    torch.manual_seed(size)
    normal = [torch.randn(size) for _ in range(_BUFFERS)]
    if kind == "normal":
        return normal
    return [g.div_(torch.empty(size).exponential_().sqrt_()) for g in normal]  # chi^2 / 2 of 2 degrees is exponential


def _case(size: int, density: float, kind: str, names: tuple[str, ...], rounds: int) -> Iterator[Row]:
    given, k = gradients(size, kind), entries_of(density, size)
    made, calls = {name: make(name) for name in names}, max(1, _TOGETHER // size)
    work = {"topk of torch": _torch_topk(given, k), "floor": _floor(given)}
    work |= {name: _sender(compressor, given, density) for name, compressor in made.items()}
    for send in work.values():
        for _ in range(_SETTLE):
            send()
    numbers = {name: _quality(name, compressor, given[0], density) for name, compressor in made.items()}
    seconds = seconds_side_by_side({name: _repeated(send, calls) for name, send in work.items()}, rounds)
    for name, compressor in made.items():
        case = f"{name} n={size} density={density} input={kind}"
        yield from ratio_rows(case, seconds["topk of torch"], seconds[name], "ratio_to_topk")
        yield from ratio_rows(case, seconds[name], seconds["floor"], "ratio_to_floor")
        for suffix, share in (("", 0.5), ("_quartile_low", 0.25), ("_quartile_high", 0.75)):
            milliseconds = 1e3 * torch.tensor(seconds[name]).quantile(share) / calls
            yield Row(case, f"milliseconds{suffix}", float(milliseconds), "ms")
        for metric, value in numbers[name].items():
            yield Row(case, metric, value, "1")
        stats = compressor.stats("gradient")
        if "hits" in stats:
            yield Row(case, "hit_rate", stats["hits"] / stats["calls"], "1")


def _repeated(send: Callable[[], object], calls: int) -> Callable[[], object]:
    """Several calls in a row, as a step sends the gradients of several layers; the clock is too coarse for one."""

    def work() -> None:
        for _ in range(calls):
            send()

    return work


def _rotating(given: list[Tensor], step: Callable[[Tensor], object]) -> Callable[[], object]:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        step(given[calls % len(given)])

    return work


def _sender(compressor: GradientCompressor, given: list[Tensor], density: float) -> Callable[[], object]:
    return _rotating(given, lambda g: compressor.send(g, "gradient", density))


def _floor(given: list[Tensor]) -> Callable[[], object]:
    residual = torch.zeros_like(given[0])
    return _rotating(given, residual.add_)


def _torch_topk(given: list[Tensor], k: int) -> Callable[[], object]:
    """Error feedback in four lines of torch, without any check."""
    residual = torch.zeros_like(given[0])

    def step(gradient: Tensor) -> Tensor:
        residual.add_(gradient)
        indices = residual.abs().topk(k, sorted=False).indices
        values = residual[indices]
        residual[indices] = 0
        return values

    return _rotating(given, step)


def _quality(name: str, compressor: GradientCompressor, gradient: Tensor, density: float) -> dict[str, float]:
    """How good one selection is; it changes the compressor's memory as any other."""
    entry = compressor.memory.entries["gradient"]
    before = entry.buffers["residual"] + gradient if entry.buffers else gradient.clone()
    k = entries_of(density, gradient.numel())
    largest = before.abs().topk(k).values
    sparse = compressor.send(gradient, "gradient", density)
    together = sparse.dense() + entry.buffers["residual"] if entry.buffers else before
    sent = sparse.values.abs()
    if not torch.equal(together, before) or (not entry.buffers and not _stands_in(sparse, before)):
        raise WrongResultError(f"{name}: what is sent and what is kept are not the sum; no speed is reported")
    promised = compressor.compressor.exact and not isinstance(compressor.compressor, RandomCompressor)
    if promised and not torch.equal(sent.sort(descending=True).values, largest):
        raise WrongResultError(f"{name}: not the {k} largest; no speed is reported")
    error = abs(float(sent.min() / largest[-1]) - 1) if sent.numel() else float("inf")
    energy = float(sent.double().norm() / before.double().norm())
    return {"nnz_over_k": sent.numel() / k, "threshold_error": error, "energy_captured": energy}


def _stands_in(sparse, before: Tensor) -> bool:
    return torch.equal(sparse.values, before if sparse.indices is None else before[sparse.indices])
