"""Measure a speed as ratios taken side by side in one run, and print them with the machine they hold for.

  python -m lowbit benchmark loop
  python -m lowbit benchmark layers --csv layers.csv
  python -m lowbit benchmark compressors --sizes 10000,1000000 --density 0.01,0.05

The CSV has tidy rows: benchmark,case,metric,value,unit. No speed is printed for a result that is wrong.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

_OPTIONS = ("sizes", "densities", "names", "inputs", "trace_folder", "device")  # parameters of a benchmark's `cases`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which benchmark, and how."""
    from lowbit import catalog

    parser.add_argument("name", choices=catalog.available("benchmarks"), help="what to measure")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows to this file too")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--sizes", type=_several(int), metavar="N,...", help="entries of a gradient (compressors)")
    parser.add_argument(
        "--density", dest="densities", type=_several(float), metavar="D,...", help="fractions to send (compressors)"
    )
    parser.add_argument("--names", type=_several(str), metavar="NAME,...", help="what to measure alone (compressors)")
    parser.add_argument("--inputs", type=_several(str), metavar="KIND,...", help="kinds of gradients (compressors)")
    parser.add_argument(
        "--trace",
        dest="trace_folder",
        type=Path,
        metavar="FOLDER",
        help="recorded gradients: the input real (compressors)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to compute (compressors; default: cpu)")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds: to see that it works")


def run(args: argparse.Namespace) -> int:
    """Print the table as it grows, and write the CSV at the end.

    Raises:
        UserError: for an option that the benchmark does not have.
    """
    import importlib
    import inspect

    import torch
    from tqdm import tqdm

    from lowbit.atomic import write_text
    from lowbit.benchmarks._timing import WrongResultError
    from lowbit.errors import UserError

    torch.set_num_threads(args.threads)
    module = importlib.import_module(f"lowbit.benchmarks.{args.name}")
    given = {n: v for n in _OPTIONS if (v := getattr(args, n)) is not None}
    if unknown := given.keys() - inspect.signature(module.cases).parameters.keys():
        raise UserError(f"benchmark {args.name}: takes no {', '.join(sorted(unknown))}; leave the option out")
    print((module.__doc__ or "").partition("\n")[0])
    print(header(args.threads, args.device or "cpu"))
    rows = []
    try:
        for row in tqdm(module.cases(args.quick, **given), disable=None, leave=False, unit="row"):
            rows.append(row)
            tqdm.write(f"{row.case:<48} {row.metric:<22} {row.value:8.3f} {row.unit if row.unit != '1' else ''}")
    except WrongResultError as error:
        print(f"wrong result: {error}")
        return 1
    if args.csv:
        lines = [f"{args.name},{r.case},{r.metric},{r.value!r},{r.unit}" for r in rows]
        write_text(args.csv, "\n".join(["benchmark,case,metric,value,unit", *lines]) + "\n")
    return 0


def _several(kind: Callable[[str], object]) -> Callable[[str], tuple]:
    def values(text: str) -> tuple:
        return tuple(kind(part) for part in text.split(","))

    values.__name__ = f"comma-separated {kind.__name__}"  # what argparse calls it in errors
    return values


def header(threads: int, device: str = "cpu") -> str:
    """The machine and the code that a measurement holds for, in one line."""
    import platform
    import subprocess

    import torch

    from lowbit.train.machine import graphics_card, processor

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    gpu = f"{graphics_card(device)}, " if device == "cuda" else ""
    return (
        f"{gpu}{processor()}, {threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, commit {commit or 'unknown'}"
    )
