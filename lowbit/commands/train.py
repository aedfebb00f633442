"""Train one run, from flags or from a spec.json, into a folder of its own.

  python -m lowbit train --dataset digits --model vit --model.depth 4 --softmax base2 --epochs 5
  python -m lowbit train --spec results/softmax/digits_vit/base2/seed0/spec.json

Several processes that exchange compressed gradients (docs/distributed.md):

  python -m lowbit train --model resnet18 --dataset digits --compressor hggtopk --density 0.05 --log-interval 10
  python -m lowbit train --model gpt --dataset stdlib_text --compressor topk --no-use-pipeline --seq-length 35
  python -m lowbit train --model resnet18 --dataset digits --exchange.method bf16 --weight none --optimizer sgd --lr 0.1

Any of --ranks, --compressor, --density, --use-pipeline and --exchange.* asks for it. --batch-size is the whole batch,
of which every process takes its share. Weights are ternary and the optimizer is AdamW here as elsewhere; what the field
publishes is of full precision and SGD: --weight none --optimizer sgd. --compressor also knows the names of the field's
code: topk2, gaussian2 and randomk keep nothing of what they do not send, randomkec does.

A dataset that needs no download is prepared on the way. An interrupted run goes on when the same command is given
again. The default folder is named by dataset, model and softmax or exchange, and by a digest of all other settings
where they are not the defaults, so that no run takes the place of another.
"""

import argparse
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lowbit.spec import RunSpec

_DRIFTED = "; processes that exchange nothing drift apart: this is of the first, and no result of the method"


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
    paths.add_argument("--folder", type=Path, help="folder of the run (default: results/by_hand/<dataset>_<model>-...)")
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
        "--log-interval",
        "--log_interval",
        type=_count,
        metavar="N",
        help="print a line every N steps: loss, where the time goes, bytes sent; without --spec also sets --log-every",
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
    folder = args.folder or Path("results/by_hand") / folder_name(spec, f"{spec.task}-{spec.arm}") / f"seed{spec.seed}"
    data_folder = args.data_folder or Path("results/data") / spec.dataset
    prepare_if_possible(spec.dataset, data_folder, args.data_root)

    from lowbit.train.run import Interrupted, execute

    train = execute
    if spec.exchange and world > 1:
        from lowbit.train.data_parallel import DataParallel

        train = functools.partial(execute, exchange=DataParallel)
    elif spec.exchange:
        from lowbit.train.launch import launch as train
    try:
        summary = train(spec, folder, data_folder, resume=args.resume, observers=functools.partial(_observers, args))
    except Interrupted as stop:
        print(f"{folder}: {stop}")
        return stop.exit_status
    drifted = spec.exchange is not None and spec.exchange.method == "noop"
    print(f"{folder}: {told(summary)}{_DRIFTED if drifted else ''} ({summary['seconds']:.0f} s)")
    return 0


def told(summary: dict[str, Any]) -> str:
    """The result of a run in a few words: its headline metric and the loss."""
    best = summary["test"]["best"]
    return f"test {summary['metric']} {best[summary['metric']]:.4f}, loss {best['loss']:.4f}, at best validation loss"


def _observers(args: argparse.Namespace, spec: "RunSpec", work: Path) -> list:
    """The observers that the spec asks for, and a line every so many steps if the command does."""
    from lowbit.train.listeners.step_log import StepLog
    from lowbit.train.observers import observers_of

    return [*observers_of(spec, work), *([StepLog(args.log_interval)] if args.log_interval else [])]


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _spec(args: argparse.Namespace) -> "RunSpec":
    from lowbit.commands._flags import spec_from, spec_of
    from lowbit.errors import UserError
    from lowbit.spec import RunSpec

    if not args.spec_text:
        dataset = args.dataset or "digits"
        model = args.spec.get("model", {}).get("name", "resnet18")
        arm = arm_of(args.spec.get("exchange")) or args.spec.get("softmax", {}).get("name", "base_e")
        given = {"task": f"{dataset}_{model}", "arm": arm} | args.spec
        if args.log_interval:
            given["record"] = {"log_every": args.log_interval, **given.get("record", {})}
        return spec_from(given, dataset=dataset)
    if args.spec or args.dataset:
        raise UserError("--spec is complete: give no other flags of the spec with it, or edit a copy of the file")
    return spec_of(RunSpec, args.spec_text)


def arm_of(exchange: dict[str, Any] | None) -> str | None:
    """Name of a run by its exchange of gradients."""
    if not exchange or exchange.get("method", "sparse") != "sparse":
        return exchange and exchange["method"]
    compressor = exchange.get("compressor", {}).get("name", "hggtopk")
    return compressor if compressor == "none" else f"{compressor}-{exchange.get('density', 0.01)}"


def folder_name(spec: "RunSpec", name: str) -> str:
    """A name for a run made by hand, with a digest of its settings where its task and arm do not say them all.

    Settings that change no result, or only its last bits, leave it as it is.
    """
    settings = _settings(spec)
    if (plain := _named(spec)) and plain.task == spec.task and _settings(plain) == settings:
        return name
    return f"{name}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def _settings(spec: "RunSpec") -> str:
    """All settings that tell a run from others of its seed."""
    raw = spec.model_dump(mode="json", exclude={"study", "task", "arm", "seed", "record", "threads"})
    (raw["exchange"] or {}).pop("check_every_steps", None)
    return json.dumps(raw, sort_keys=True)


def _named(spec: "RunSpec") -> "RunSpec | None":
    """The run that dataset, model and arm alone describe; None where its arm is no such name."""
    from lowbit.commands._flags import spec_from
    from lowbit.errors import UserError

    compressor, _, density = spec.arm.rpartition("-")
    if not spec.exchange:
        said = {"softmax": {"name": spec.arm}}
    elif spec.exchange.method != "sparse":
        said = {"exchange": {"method": spec.arm}}
    elif compressor:
        said = {"exchange": {"compressor": {"name": compressor}, "density": density}}
    else:
        said = {"exchange": {"compressor": {"name": spec.arm}}}
    task = f"{spec.dataset}_{spec.model.name}"
    try:
        return spec_from({"task": task, "model": {"name": spec.model.name}, **said}, dataset=spec.dataset)
    except UserError:
        return None


def prepare_if_possible(dataset: str, folder: Path, root: Path | None) -> None:
    """Prepare a dataset whose variant needs no settings, in one of the processes that want it at the same time.

    Raises:
        UserError: for others, which are prepared by their own command.
    """
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
    from lowbit.data._once import prepare_once

    prepare_once(catalog.build("data", {"name": dataset}), folder, root)
