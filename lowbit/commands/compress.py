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
    parser.add_argument("--gpus-granted", type=int, metavar="N", help="GPUs that the scheduler granted")
    parser.add_argument("--data", type=Path, default=Path("results/data"), help="folder of the prepared datasets")


def run(args: argparse.Namespace) -> int:
    """Claim a GPU where the run needs one, measure what is not kept from an interrupted run, write the run folder."""
    import importlib

    from lowbit.commands._flags import spec_of
    from lowbit.compression_spec import CompressionSpec
    from lowbit.gpu_slots import claim

    spec = spec_of(CompressionSpec, args.spec)
    claim(spec.gpus, args.gpus_granted)

    from lowbit.commands._progress import progress
    from lowbit.commands.benchmark import header
    from lowbit.compression._run import execute
    from lowbit.train.machine import graphics_card, keep_freed_memory, processor

    keep_freed_memory()
    hardware = {"processor": processor(), "threads": spec.threads, "gpu": graphics_card(spec.device)}
    print(header(spec.threads, spec.device))
    pieces = importlib.import_module(f"lowbit.compression.{spec.part}").pieces(spec, args.results, args.data)
    execute(
        spec, pieces, args.results, args.folder, hardware,
        lambda items: progress(items, spec.task, "part"),
    )  # fmt: skip
    print(f"{args.folder}: {len(pieces)} pieces")
    return 0
