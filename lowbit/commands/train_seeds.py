"""Train all seeds of an arm whose processes exchange gradients, one after another, after one import of PyTorch.

Most of a short run is that import: each run is forked from this process, which computes nothing itself. Runs that are
done wait in `work/` until all are: Snakemake deletes the outputs of a job that was interrupted.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from lowbit.commands._flags import add_job_flags

    parser.add_argument("--specs", required=True, metavar="JSON", help="list of specs, each with `exchange`")
    add_job_flags(parser, "folder of the arm; a run goes to seed<n> in it")


def run(args: argparse.Namespace) -> int:
    """Claim GPUs, then import torch, then train run after run."""
    import json
    import shutil

    from lowbit import manifest
    from lowbit.commands._flags import spec_of
    from lowbit.gpu_slots import claim
    from lowbit.spec import RunSpec

    specs = [spec_of(RunSpec, json.dumps(spec)) for spec in json.loads(args.specs)]
    claim(max(spec.gpus for spec in specs), args.gpus_granted)

    from lowbit.commands.train import told
    from lowbit.data._base import read_manifest
    from lowbit.train.identity import finished
    from lowbit.train.launch import launch
    from lowbit.train.observers import observers_of
    from lowbit.train.run import Interrupted

    waiting, data = args.folder / manifest.SCRATCH, read_manifest(args.data_folder)
    for spec in specs:
        folder = waiting / f"seed{spec.seed}"
        if finished(folder, spec, data):
            print(f"{folder}: done before", flush=True)
            continue
        try:
            summary = launch(spec, folder, args.data_folder, resume=True, observers=observers_of)
        except Interrupted as stop:
            print(f"{folder}: {stop}")
            return stop.exit_status
        print(f"{folder}: {told(summary)}", flush=True)
    for spec in specs:
        shutil.copytree(waiting / f"seed{spec.seed}", args.folder / f"seed{spec.seed}", dirs_exist_ok=True)
    shutil.rmtree(waiting)
    return 0
