"""Compressors against `torch.topk(sorted=False)` with error feedback, and against `residual.add_(gradient)`, the floor.

`ratio_to_topk` is how many times faster than the former, `ratio_to_floor` how many times slower than the latter, both
in processor time, whatever the number of threads; on a GPU, in time until it is done. Gradients rotate through several
buffers, and residuals have settled before anything is measured. `threshold_error` is |T - T_k| / T_k of the smallest
magnitude sent and the k-th largest there was, at the k that was asked for; `energy_captured` is the norm of what was
sent in units of the norm of what it was chosen from; `recall` is the share of the k largest that was sent.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lowbit import catalog
from lowbit.benchmarks._selections import send_and_judge
from lowbit.benchmarks._timing import Row, clock_of, ratio_rows, seconds_side_by_side
from lowbit.compression_spec import INPUTS
from lowbit.compressors import HISTORICAL, GradientCompressor, entries_of, make
from lowbit.errors import UserError
from lowbit.train import trace
from lowbit.train.machine import keep_freed_memory

SIZES, DENSITIES = (10_000, 100_000, 1_000_000, 10_000_000), (0.001, 0.01, 0.05)
NAMES = tuple(dict.fromkeys(["hggtopk", *HISTORICAL, *catalog.available("compressors")]))
PLAIN, SORTED, FLOOR = "torch_topk", "torch_topk_sorted", "floor"
_ENTRIES, _TOGETHER = 40_000_000, 100_000  # entries in all rounds of a contestant, and at least in one measurement
_BUFFERS, _SETTLE, _ROUNDS = 4, 30, 101


@dataclass(frozen=True)
class Case:
    """What is sent.

    Args:
        size: entries of a gradient.
        density: fraction to send.
        kind: "normal", "student_t2" or "real".
    """

    size: int
    density: float
    kind: str

    def words(self, name: str) -> str:
        """The case of a compressor."""
        return f"{name} n={self.size} density={self.density} input={self.kind}"


def cases(
    quick: bool,
    sizes: tuple[int, ...] = SIZES,
    densities: tuple[float, ...] = DENSITIES,
    names: tuple[str, ...] = NAMES,
    inputs: tuple[str, ...] | None = None,
    trace_folder: Path | None = None,
    device: str = "cpu",
) -> Iterator[Row]:
    """Measure every case.

    Args:
        quick: the smallest size and fewer rounds.
        sizes: numbers of entries.
        densities: fractions to send.
        names: of compressors, historical or variants.
        inputs: kinds of gradients; normal and heavy-tailed ones, and real ones where there is a trace.
        trace_folder: recorded gradients (`python -m lowbit trace`).
        device: "cpu" or "cuda".

    Raises:
        WrongResultError: when entries are lost or changed, or an exact selection is not the top-k.
        UserError: for real gradients without a trace, or more entries than it has.
    """
    keep_freed_memory()
    real = None if trace_folder is None else trace.read(trace_folder)
    for size in sizes[:1] if quick else sizes:
        for kind in inputs or ("normal", "student_t2", *(["real"] if real else [])):
            given = [gradient.to(device) for gradient in gradients(size, kind, real)]
            for density in densities:
                case, made = Case(size, density, kind), {name: make(name) for name in names}
                for name, metric, value, unit in measure(case, made, given, rounds=5 if quick else _ROUNDS):
                    yield Row(case.words(name), metric, value, unit)


def gradients(size: int, kind: str, real: trace.Trace | None = None) -> list[Tensor]:
    """Several gradients: normal; Student's t with 2 degrees of freedom, whose variance is infinite; or real ones.

    Real ones are the last entries of all parameters in a row, at consecutive steps.

    Raises:
        UserError: for another kind, or real ones without a trace, or of more entries than it has.
    """
    if kind not in INPUTS:
        raise UserError(f"input {kind!r}: {catalog.suggestion(kind, INPUTS)}")
    if kind == "real":
        if real is None:
            raise UserError("input real: needs recorded gradients; give --trace a folder of `python -m lowbit trace`")
        recorded = real.whole()
        if recorded[0].numel() < size:
            raise UserError(
                f"input real: {size} entries asked for, {recorded[0].numel()} recorded; trace a wider network"
            )
        return [gradient[-size:].clone() for gradient in recorded[:_BUFFERS]]
    torch.manual_seed(size)
    normal = [torch.randn(size) for _ in range(_BUFFERS)]
    if kind == "normal":
        return normal
    return [g.div_(torch.empty(size).exponential_().sqrt_()) for g in normal]  # chi^2 / 2 of 2 degrees is exponential


def measure(
    case: Case,
    made: Mapping[str, GradientCompressor],
    given: list[Tensor],
    *,
    rounds: int = _ROUNDS,
    settle: int = _SETTLE,
) -> Iterator[tuple[str, str, float, str]]:
    """Measure compressors in one case, side by side.

    Args:
        case: what is sent.
        made: name -> a fresh compressor.
        given: gradients, taken in turn, on the device that is measured.
        rounds: measurements of each at most; fewer of large gradients.
        settle: calls before the first measurement.

    Returns:
        Name, metric, value and unit; the names PLAIN, SORTED and FLOOR are what compressors are compared with.
    """
    k, calls = entries_of(case.density, case.size), max(1, _TOGETHER // case.size)
    work = {PLAIN: _torch_topk(given, k), SORTED: _torch_topk(given, k, in_order=True), FLOOR: _floor(given)}
    work |= {name: _sender(compressor, given, case.density) for name, compressor in made.items()}
    for send in work.values():
        for _ in range(settle):
            send()
    numbers = {
        name: send_and_judge(compressor, given[0], "gradient", case.density, name) for name, compressor in made.items()
    }
    repeated = {name: _repeated(send, calls) for name, send in work.items()}
    clock = clock_of(given[0].device.type)
    seconds = seconds_side_by_side(repeated, min(rounds, max(7, _ENTRIES // case.size)), clock)
    for name in (*made, PLAIN, SORTED, FLOOR):
        if name != PLAIN:
            for row in ratio_rows(name, seconds[PLAIN], seconds[name], "ratio_to_topk"):
                yield name, row.metric, row.value, row.unit
        if name != FLOOR:
            for row in ratio_rows(name, seconds[name], seconds[FLOOR], "ratio_to_floor"):
                yield name, row.metric, row.value, row.unit
        for suffix, share in (("", 0.5), ("_quartile_low", 0.25), ("_quartile_high", 0.75)):
            milliseconds = 1e3 * torch.tensor(seconds[name]).quantile(share) / calls
            yield name, f"milliseconds{suffix}", float(milliseconds), "ms"
        yield name, "rounds", float(len(seconds[name])), "1"
        for metric, value in numbers.get(name, {}).items():
            yield name, metric, value, "1"
        stats = made[name].stats("gradient") if name in made else {}
        if stats.get("calls"):
            yield name, "hit_rate", stats["hits"] / stats["calls"], "1"


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


def _torch_topk(given: list[Tensor], k: int, *, in_order: bool = False) -> Callable[[], object]:
    """Error feedback in four lines of torch, without any check."""
    residual = torch.zeros_like(given[0])

    def step(gradient: Tensor) -> Tensor:
        residual.add_(gradient)
        indices = residual.abs().topk(k, sorted=in_order).indices
        values = residual[indices]
        residual[indices] = 0
        return values

    return _rotating(given, step)
