"""Measure compressors of gradients for the compressor study: their speed, or what they send step after step.

  python -m lowbit compress --spec results/compressor/quality/spec.json --folder results/by_hand/quality

The gradients are recorded before: `python -m lowbit trace`. A table by hand: `python -m lowbit benchmark compressors`.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and where things are."""
    parser.add_argument("--spec", required=True, metavar="FILE|JSON", help="of the run")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the run")
    parser.add_argument("--results", type=Path, default=Path("results"), help="root of the outputs")
    parser.add_argument("--data", type=Path, default=Path("results/data"), help="folder of the prepared datasets")


def run(args: argparse.Namespace) -> int:
    """Measure every piece that is not kept from an interrupted run, and write the run folder."""
    import importlib

    from tqdm import tqdm

    from lowbit.commands._flags import spec_of
    from lowbit.commands.benchmark import header
    from lowbit.compression._pieces import execute
    from lowbit.compression_spec import CompressionSpec
    from lowbit.train.machine import keep_freed_memory, processor

    spec = spec_of(CompressionSpec, args.spec)
    keep_freed_memory()
    print(header(spec.threads))
    pieces = importlib.import_module(f"lowbit.compression.{spec.task}").pieces(spec, args.results, args.data)
    hardware = {"processor": processor(), "threads": spec.threads, "gpu": None}
    execute(
        spec, pieces, args.results, args.folder, hardware,
        lambda items: tqdm(items, desc=spec.task, unit="piece", disable=None),
    )  # fmt: skip
    print(f"{args.folder}: {len(pieces)} pieces")
    return 0
