"""Record the gradients of a training run, step after step, for the compressor study.

python -m lowbit trace --spec results/traces/layers/seed0/spec.json --folder results/by_hand/trace
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which gradients, and where they go."""
    parser.add_argument(
        "--spec", required=True, metavar="FILE|JSON", help="of the trace; `python -m lowbit check --specs`"
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder to write")
    parser.add_argument("--data-folder", type=Path, help="prepared dataset (default: results/data/<dataset>)")
    parser.add_argument("--gpus-granted", type=int, metavar="N", help="GPUs that the scheduler granted")


def run(args: argparse.Namespace) -> int:
    """Claim a GPU where the run needs one, train, and write the trace."""
    from lowbit.commands._flags import spec_of
    from lowbit.compression_spec import TraceSpec
    from lowbit.gpu_slots import claim

    spec = spec_of(TraceSpec, args.spec)
    claim(spec.run.gpus, args.gpus_granted)

    from lowbit.commands._progress import progress
    from lowbit.train.trace import read, record

    data = args.data_folder or Path("results/data") / spec.run.dataset
    record(spec, args.folder, data, lambda steps: progress(steps, spec.name, "step"))
    trace = read(args.folder)
    print(f"{args.folder}: {len(trace.layers)} parameters at {len(trace.steps)} steps from {trace.steps[0]} on")
    return 0
