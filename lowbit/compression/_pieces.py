"""A run of the compressor study as pieces: each is measured once, kept, and published with the others."""

import json
import math
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from lowbit import manifest
from lowbit.atomic import remove_partial, write_text
from lowbit.compression_spec import CompressionSpec, CompressorArm
from lowbit.compressors import GradientCompressor, make
from lowbit.train.trace import Trace, read

Record = dict[str, Any]
Pieces = dict[str, Callable[[], Iterable[Record]]]


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
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    given = [(root / trace.path / manifest.NAME).read_text(encoding="utf-8") for trace in spec.traces]
    identity = {"spec": spec.to_json(), "code": spec.code_digest, "traces": given, "hardware": hardware}
    lines: list[Record] = []
    for name, measure in progress(list(pieces.items())):
        done = work / f"{name}.json"
        kept = json.loads(done.read_text(encoding="utf-8")) if done.exists() else {}
        if kept.get("identity") != identity:
            kept = {"identity": identity, "lines": [_known(line) for line in measure()]}
            write_text(done, json.dumps(kept, allow_nan=False) + "\n")
        lines += kept["lines"]
    summary = {
        "device": spec.device,
        "machine": hardware,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "records": len(lines),
    }
    write_text(folder / "events.jsonl", "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))
    write_text(folder / "spec.json", spec.to_json())
    write_text(folder / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
    remove_partial(folder)
    manifest.write(folder)
    shutil.rmtree(work)  # a forced rerun measures anew


def _known(content: Any) -> Any:
    """The content with twelve digits, and null for numbers that are not."""
    if isinstance(content, dict):
        return {key: _known(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_known(value) for value in content]
    if not isinstance(content, float):
        return content
    return float(f"{content:.9g}") if math.isfinite(content) else None


def rows(records: Iterator[tuple[str, str, float, str]]) -> dict[str, dict[str, float]]:
    """Name -> metric -> value."""
    found: dict[str, dict[str, float]] = {}
    for name, metric, value, _ in records:
        found.setdefault(name, {})[metric] = value
    return found
