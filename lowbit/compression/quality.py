"""What compressors send, step after step with their feedback's memory: nothing here is timed, and one spec has one
result.

Sources are the layers of a recorded trace, one after the other as a training step has them, and random gradients.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lowbit.benchmarks._cost import Traffic, peak_bytes
from lowbit.benchmarks._selections import send_and_judge
from lowbit.compression._run import arms_of, contestants, traces_of
from lowbit.compression_spec import CompressionSpec
from lowbit.compressors import entries_of
from lowbit.pieces import Pieces, Record
from lowbit.train.reproducibility import generator

METRICS = ("nnz_over_k", "threshold_error", "energy_captured", "recall")
_COUNTED, _DENSITY, _BEFORE = 1_000_000, 0.01, 3


def pieces(spec: CompressionSpec, root: Path, data: Path) -> Pieces:
    """A piece per seed, one for memory and one for passes.

    Args:
        spec: of the run.
        root: results folder, which has the traces.
        data: not used; here for the form.
    """
    torch.set_num_threads(spec.threads)
    followed = {f"seed{trace.run.seed}": partial(_followed, spec, i, root) for i, trace in enumerate(spec.traces)}
    return followed | {"memory": partial(_memory, spec), "passes": partial(_passes, spec)}


def sources(spec: CompressionSpec, number: int, root: Path) -> Iterator[tuple[str, str, list[Tensor]]]:
    """Kind, name and gradients, step after step."""
    trace, seed = traces_of(spec, root)[number], spec.traces[number].run.seed
    for kind in ("normal", "student_t2"):
        draw = generator(seed, f"gradients/{kind}")
        drawn = [torch.randn(spec.quality.synthetic, generator=draw) for _ in trace.steps]
        if kind == "student_t2":
            drawn = [g / torch.empty_like(g).exponential_(generator=draw).sqrt() for g in drawn]
        yield kind, kind, drawn
    for layer in trace.layers:
        yield "real", layer, trace.of_layer(layer)


def _followed(spec: CompressionSpec, number: int, root: Path) -> Iterator[Record]:
    seed = spec.traces[number].run.seed
    for kind, source, given in sources(spec, number, root):
        for density in spec.quality.densities:
            arms = arms_of(spec, lambda arm, density=density: arm.densities is None or density in arm.densities)
            for (arm, variant), build in contestants(arms).items():
                place = {"arm": arm, "variant": variant, "seed": seed, "density": density}
                size = given[0].numel()
                place |= {"input": kind, "source": source, "n": size, "k": entries_of(density, size)}
                yield {"type": "selections", **place, **_follow(build(), given, density, arm)}


def _follow(compressor, given: list[Tensor], density: float, label: str) -> dict[str, list[float]]:
    """Metrics at every step; `hit` where the last threshold served, for those that count it."""
    found: dict[str, list[float]] = {metric: [] for metric in METRICS}
    hits, before = [], 0.0
    for gradient in given:
        for metric, value in send_and_judge(compressor, gradient, "gradient", density, label).items():
            found[metric].append(value)
        counted = compressor.stats("gradient")
        if counted.get("calls"):
            hits.append(counted["hits"] - before)
            before = counted["hits"]
    return found | ({"hit": hits} if len(hits) == len(given) else {})


def _gradients(size: int, count: int) -> list[Tensor]:
    draw = generator(0, "gradients/cost", size)
    return [torch.randn(size, generator=draw) for _ in range(count)]


def _memory(spec: CompressionSpec) -> Iterator[Record]:
    """Bytes beyond what is kept between calls, in a call after some others; the gradient does not count."""
    for size in spec.quality.memory_sizes:
        given = _gradients(size, _BEFORE + 2)
        for (arm, variant), build in contestants(arms_of(spec, lambda arm: arm.grids is None)).items():
            compressor = build()
            for gradient in given[:_BEFORE]:
                compressor.send(gradient, "gradient", _DENSITY)
            rest = iter(given[_BEFORE:])
            peak = peak_bytes(
                lambda compressor=compressor, rest=rest: compressor.send(next(rest), "gradient", _DENSITY)
            )
            entry = compressor.memory.entries["gradient"]
            kept = sum(t.numel() * t.element_size() for t in (entry.history, *entry.buffers.values()))
            place = {"arm": arm, "variant": variant, "n": size, "density": _DENSITY, "k": entries_of(_DENSITY, size)}
            # Python's own objects differ by some bytes from one process to the next.
            yield {"type": "memory", **place, "extra_bytes": round(peak, -3), "kept_bytes": kept}


def _passes(spec: CompressionSpec) -> Iterator[Record]:
    """Operations of one call over all entries, and the bytes of their operands per entry."""
    given = _gradients(_COUNTED, _BEFORE + 1)
    for (arm, variant), build in contestants(arms_of(spec, lambda arm: arm.grids is None)).items():
        compressor = build()
        for gradient in given[:_BEFORE]:
            compressor.send(gradient, "gradient", _DENSITY)
        with Traffic(_COUNTED // 2) as traffic:
            compressor.send(given[_BEFORE], "gradient", _DENSITY)
        numbers = {
            "passes": traffic.passes,
            "bytes_per_entry": traffic.bytes / _COUNTED,
            "host_waits": traffic.host_waits,
        }
        exact = {"exact": compressor.compressor.exact}
        yield {"type": "passes", "arm": arm, "variant": variant, "n": _COUNTED, "density": _DENSITY, **numbers, **exact}
