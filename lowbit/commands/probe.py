"""Measure an estimator on a problem: how far the loss falls along its direction, how close it is to the gradient.

  python -m lowbit probe --problem teacher_student --problem.dim 16 --estimator cdg --estimator.epsilon 0.1
  python -m lowbit probe --estimator nes --axis estimator.sigma=1,0.1,0.01 --axis problem.dim=8,16
  python -m lowbit probe --spec results/estimator/toy/cdg/spec.json --folder results/by_hand/cdg

The start and the reference gradient of a task are made on the way where they are missing.
"""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Paths, axes, then a flag for every field of the spec."""
    from lowbit.commands._flags import add_spec_flags
    from lowbit.probe_spec import ProbeSpec

    parser.usage = f"{parser.prog} [--problem NAME] [--estimator NAME] [--surrogate NAME] ...  (--help lists all)"
    paths = parser.add_argument_group("where")
    paths.add_argument(
        "--spec", dest="spec_text", metavar="FILE|JSON", help="measure this spec; no other spec flags with it"
    )
    paths.add_argument("--folder", type=Path, help="folder of the run (default: results/by_hand/<task>/<arm>)")
    paths.add_argument("--reference-folder", type=Path, help="start and reference (default: beside the run)")
    paths.add_argument(
        "--data", type=Path, default=Path("results/data"), metavar="FOLDER",
        help="folder of the prepared datasets of networks (default: results/data)",
    )  # fmt: skip
    paths.add_argument(
        "--reference-only", action="store_true", help="make start and reference, and measure no estimator"
    )
    paths.add_argument(
        "--axis",
        action="append",
        default=[],
        metavar="PLACE=V,V",
        help="vary a setting within the run; may be given several times",
    )
    add_spec_flags(parser, ProbeSpec)


def run(args: argparse.Namespace) -> int:
    """Make the reference where it is missing, measure, and print a table."""
    spec = _spec(args)
    folder = args.folder or Path("results/by_hand") / spec.task / spec.arm
    shared = args.reference_folder or folder.parent / f"{folder.name}-reference"

    from lowbit.commands._progress import progress
    from lowbit.errors import UserError
    from lowbit.probe import reference
    from lowbit.probe.run import execute
    from lowbit.train.machine import keep_freed_memory, processor

    keep_freed_memory()
    if args.reference_only:
        reference.write(spec, folder, args.data, lambda points: progress(points, spec.task, "point"))
        print(f"{folder}: start and reference at {len(spec.problems)} points")
        return 0
    if not reference.is_of(spec, shared):
        if args.reference_folder and any(shared.iterdir() if shared.exists() else ()):
            raise UserError(
                f"{shared}: holds start and reference of another spec or of other code; delete the folder to have them "
                "made again (in the pipeline: snakemake --forcerun reference), or give another --reference-folder"
            )
        reference.write(spec, shared, args.data, lambda points: progress(points, f"{spec.task} reference", "point"))
    hardware = {"processor": processor(), "threads": spec.threads, "gpu": None}
    execute(
        spec, shared, folder, hardware, args.data,
        lambda points: progress(points, spec.arm, "point"),
    )  # fmt: skip
    _print_table(folder)
    return 0


def _spec(args: argparse.Namespace):
    from lowbit.commands._flags import spec_of, validated
    from lowbit.errors import UserError
    from lowbit.probe_spec import ProbeSpec

    if args.spec_text:
        if args.spec or args.axis:
            raise UserError("--spec is complete: give no other flags of the spec with it, or edit a copy of the file")
        return spec_of(ProbeSpec, args.spec_text)
    raw = {"arm": args.spec.get("estimator", {}).get("name", "autograd"), **args.spec}
    for slot, default in (("problem", "teacher_student"), ("estimator", "autograd"), ("surrogate", "window")):
        raw[slot] = {"name": default, **raw.get(slot, {})}
    raw["axes"] = dict(_axis(text) for text in args.axis)
    return validated(ProbeSpec, raw)


def _axis(text: str) -> tuple[str, list]:
    from lowbit.errors import UserError

    place, equals, values = text.partition("=")
    if not (place and equals and values):
        raise UserError(f"--axis {text}: must be PLACE=VALUE,VALUE, such as estimator.epsilon=1,0.1")
    return place, [_value(v) for v in values.split(",")]


def _value(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


def _print_table(folder: Path) -> None:
    """One line per point: means over the batches, or the end of the descent."""
    import statistics

    by_point: dict[str, dict[str, list[float]]] = {}
    ends: dict[str, str] = {}
    for line in map(json.loads, (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()):
        name = ", ".join(f"{key} {value}" for key, value in line["point"].items()) or "one point"
        if line["type"] == "descent":
            ends[name] = f"loss {line['loss']:.6g} after {line['update']} updates"
        if line["type"] == "reference" or line.get("tensor", "all") != "all":
            continue
        for key in ("decrease", "decrease_held_out", "cosine", "forward_evaluations", "seconds"):
            if line.get(key) is not None:
                by_point.setdefault(name, {}).setdefault(key, []).append(line[key])
    width = max(map(len, [*by_point, *ends]))
    if by_point:
        print(f"{'':<{width}}  decrease  held out  cosine   evaluations   seconds")
    for name, values in by_point.items():
        mean = {key: statistics.fmean(found) for key, found in values.items()}
        print(
            f"{name:<{width}}  {mean['decrease']:8.4f}  {mean['decrease_held_out']:8.4f}"
            f"  {mean.get('cosine', float('nan')):6.3f}  {mean['forward_evaluations']:12.0f}  {mean['seconds']:8.3f}"
        )
    for name, words in ends.items():
        print(f"{name:<{width}}  {words}")
    print(f"{folder}")
