"""A run of the compressor study: its arms and traces, and its run folder."""

import platform
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from lowbit import manifest
from lowbit.compression_spec import CompressionSpec, CompressorArm
from lowbit.compressors import GradientCompressor, make
from lowbit.pieces import Pieces, Record, measured, publish
from lowbit.train.trace import Trace, read


def arms_of(spec: CompressionSpec, wanted: Callable[[CompressorArm], bool]) -> dict[str, CompressorArm]:
    """Some arms of a run, in the order of the study."""
    return {name: spec.arms[name] for name in spec.order if wanted(spec.arms[name])}


def contestants(arms: dict[str, CompressorArm]) -> dict[tuple[str, str], Callable[[], GradientCompressor]]:
    """(Arm, point of its axes in words) -> makes a compressor with a memory of its own."""
    return {
        (name, words): lambda variant=variant: _build(variant)
        for name, arm in arms.items()
        for words, variant in arm.variants
    }


def _build(arm: CompressorArm) -> GradientCompressor:
    settings = arm.compressor.model_dump()
    return make(settings.pop("name"), arm.feedback.model_dump(), **settings)


def traces_of(spec: CompressionSpec, root: Path) -> list[Trace]:
    """The recorded gradients of a run, a trace per seed."""
    return [read(root / trace.path) for trace in spec.traces]


def execute(
    spec: CompressionSpec,
    pieces: Pieces,
    root: Path,
    folder: Path,
    hardware: Record,
    progress: Callable[[Iterable], Iterable] = iter,
) -> None:
    """Measure every piece and write the run folder; pieces of an interrupted run of the same spec and code are kept.

    Args:
        spec: of the run.
        pieces: name -> measures it.
        root: results folder, which has the traces.
        folder: of the run.
        hardware: written into the summary; measurements of other hardware are not kept.
        progress: wraps the pieces (a progress bar).
    """
    given = [(root / trace.path / manifest.NAME).read_text(encoding="utf-8") for trace in spec.traces]
    identity = {"spec": spec.to_json(), "code": spec.code_digest, "traces": given, "hardware": hardware}
    lines = measured(pieces, folder, identity, progress)
    summary = {
        "device": spec.device,
        "machine": hardware,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "records": len(lines),
    }
    publish(folder, lines, spec.to_json(), summary)


def rows(records: Iterator[tuple[str, str, float, str]]) -> dict[str, dict[str, float]]:
    """Name -> metric -> value."""
    found: dict[str, dict[str, float]] = {}
    for name, metric, value, _ in records:
        found.setdefault(name, {})[metric] = value
    return found
