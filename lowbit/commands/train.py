"""Train one run, from flags or from a spec.json, into a folder of its own.

  python -m lowbit train --dataset digits --model vit --model.depth 4 --softmax base2 --epochs 5
  python -m lowbit train --spec results/softmax/digits_vit/base2/seed0/spec.json

A dataset that needs no download is prepared on the way. An interrupted run goes on when the same command is given
again.
"""

import argparse
import functools
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Paths, then a flag for every field of the spec."""
    from lowbit import catalog
    from lowbit.commands._flags import add_spec_flags

    parser.usage = (
        f"{parser.prog} [--dataset NAME] [--model NAME] [--softmax NAME] [--epochs N] ...  (--help lists all)"
    )
    paths = parser.add_argument_group("where")
    paths.add_argument(
        "--spec", dest="spec_text", metavar="FILE|JSON", help="run this spec; other spec flags are not allowed with it"
    )
    paths.add_argument("--folder", type=Path, help="folder of the run (default: results/by_hand/<dataset>-<model>-...)")
    paths.add_argument("--data-folder", type=Path, help="prepared dataset (default: results/data/<dataset>)")
    paths.add_argument("--data-root", type=Path, help="your raw data, when the dataset is prepared on the way")
    paths.add_argument(
        "--dataset",
        metavar="NAME",
        help=f"dataset: {', '.join(catalog.available('data'))}, or the name of a prepared one (default: digits)",
    )
    paths.add_argument(
        "--gpus-granted",
        type=int,
        metavar="N",
        help="GPUs that the scheduler granted; fewer than the run needs is an error",
    )
    paths.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with a half-done run of the same spec in the folder (default: yes)",
    )
    add_spec_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Claim GPUs, then import torch, then train."""
    from lowbit.gpu_slots import claim

    spec = _spec(args)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    claim(spec.gpus if world == 1 else 0, args.gpus_granted)
    folder = args.folder or Path("results/by_hand") / f"{spec.task}-{spec.arm}" / f"seed{spec.seed}"
    data_folder = args.data_folder or Path("results/data") / spec.dataset
    _prepare_if_possible(spec.dataset, data_folder, args.data_root)

    from lowbit.train.observers import observers_of
    from lowbit.train.run import Interrupted, execute

    train = execute
    if spec.exchange and world > 1:
        from lowbit.train.data_parallel import DataParallel

        train = functools.partial(execute, exchange=DataParallel)
    elif spec.exchange:
        from lowbit.train.launch import launch as train
    try:
        summary = train(spec, folder, data_folder, resume=args.resume, observers=observers_of)
    except Interrupted as stop:
        print(f"{folder}: {stop}")
        return stop.exit_status
    test = summary["test"]["best"]
    values = ", ".join(f"{name} {value:.4f}" for name, value in test.items())
    print(f"{folder}: test at best validation loss: {values} ({summary['seconds']:.0f} s)")
    return 0


def _spec(args: argparse.Namespace):
    from lowbit.commands._flags import spec_from, spec_of
    from lowbit.errors import UserError
    from lowbit.spec import RunSpec

    if not args.spec_text:
        dataset = args.dataset or "digits"
        model = args.spec.get("model", {}).get("name", "resnet18")
        softmax = args.spec.get("softmax", {}).get("name", "base_e")
        return spec_from({"task": f"{dataset}_{model}", "arm": softmax} | args.spec, dataset=dataset)
    if args.spec or args.dataset:
        raise UserError("--spec is complete: give no other flags of the spec with it, or edit a copy of the file")
    return spec_of(RunSpec, args.spec_text)


def _prepare_if_possible(dataset: str, folder: Path, root: Path | None) -> None:
    """Prepare a dataset whose variant needs no settings; others are prepared by their own command."""
    from lowbit import catalog
    from lowbit.errors import UserError

    if (folder / "manifest.json").exists():
        return
    by_hand = "python -m lowbit prepare --dataset NAME --settings '{\"name\": VARIANT, ...}' --data-root FOLDER"
    if dataset not in catalog.available("data"):
        raise UserError(f"{folder}: no prepared dataset here, and {dataset!r} is no variant; first run: {by_hand}")
    required = [key for key, setting in catalog.signature("data", dataset).items() if setting.default is ...]
    if required:
        raise UserError(
            f"{folder}: no prepared dataset here; {dataset} needs {', '.join(required)}; first run: {by_hand}"
        )
    catalog.build("data", {"name": dataset}).prepare(folder, root)
