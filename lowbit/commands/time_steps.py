"""Time training steps of all arms of a task side by side: turn by turn, in shuffled order, in the same processes.

  python -m lowbit time-steps --spec results/timing/digits_parallel/spec.json --folder results/by_hand \\
      --data-folder results/data/digits
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs, and where their times go."""
    from lowbit.commands._flags import add_job_flags

    parser.add_argument("--spec", required=True, metavar="FILE|JSON", help="of the timing: its runs and turns")
    add_job_flags(parser, "folder of the times")


def run(args: argparse.Namespace) -> int:
    """Claim GPUs, then import torch, time the turns that are not kept from an interrupted job, write the folder."""
    from lowbit.commands._flags import spec_of
    from lowbit.gpu_slots import claim
    from lowbit.timing_spec import TimingSpec

    spec = spec_of(TimingSpec, args.spec)
    claim(spec.gpus, args.gpus_granted)

    import platform

    import torch

    from lowbit.commands._progress import progress
    from lowbit.data._base import read_manifest
    from lowbit.pieces import measured, publish
    from lowbit.train import side_by_side
    from lowbit.train.identity import identity_of
    from lowbit.train.machine import machine
    from lowbit.train.run import Interrupted

    hardware = machine(spec.runs[0])
    data = read_manifest(args.data_folder)
    runs = [identity_of(run, data) for run in spec.runs]
    identity = {"spec": spec.to_json(), "code": spec.code_digest, "hardware": hardware, "runs": runs}
    asked = side_by_side.pieces(spec, args.data_folder)
    try:
        records = measured(asked, args.folder, identity, lambda items: progress(items, spec.path, "turn"))
    except Interrupted as stop:
        print(f"{args.folder}: {stop}")
        return stop.exit_status
    summary = {
        "device": spec.runs[0].device,
        "machine": hardware,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "seconds": side_by_side.medians(records),
    }
    publish(args.folder, records, spec.to_json(), summary)
    print(f"{args.folder}: {len(records)} steps of {len(summary['seconds'])} arms")
    return 0
