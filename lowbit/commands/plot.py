"""Draw runs made by hand: curves, final results, communication, compressors at each density, or all on one page.

  python -m lowbit plot --plot-steps --summary
  python -m lowbit plot results/by_hand/cifar10_resnet50-hggtopk-0.05 results/by_hand/cifar10_resnet50-none --report

Folders are runs, or have runs below them. Runs that differ in their seed alone are one arm. Figures are written as PNG
and SVG.
"""

import argparse
from pathlib import Path

DEFAULT = Path("results/by_hand")
FIGURES = {
    "steps": ("--plot-steps", "loss or perplexity against steps and against wall time"),
    "final": ("--summary", "final accuracy or perplexity of every arm"),
    "communication": ("--compare-comm", "bytes and time of a step"),
    "sparse": ("--compare-sparse", "compressors at each density"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Folders, and a flag per figure."""
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help=f"runs (default: {DEFAULT})")
    for name, (flag, text) in FIGURES.items():
        parser.add_argument(flag, dest=name, action="store_true", help=f"draw {text}")
    parser.add_argument("--report", action="store_true", help="write all of them and the table of runs as one page")
    parser.add_argument("--output", type=Path, help="folder to write to (default: plots in the first folder)")


def run(args: argparse.Namespace) -> int:
    """Read the runs once, then draw what was asked for."""
    from lowbit.analysis import collected, figures, page, style
    from lowbit.atomic import write_text
    from lowbit.errors import UserError

    asked = [name for name in FIGURES if getattr(args, name)]
    if not asked and not args.report:
        raise UserError(f"nothing to draw: give {', '.join(flag for flag, _ in FIGURES.values())} or --report")
    folders = args.folders or [DEFAULT]
    tables = collected.collect(folders)
    output = args.output or folders[0] / "plots"
    drawn: dict[str, tuple[str, Path | str]] = {}
    with style.applied():
        for name in FIGURES if args.report else asked:
            png, svg = (output / f"{name}.{suffix}" for suffix in ("png", "svg"))
            text = figures.description("by_hand", name)
            heading, _, text = text.partition("\n\n")
            try:
                style.save(figures.drawer("by_hand", name)(tables), png, svg)
                drawn[heading] = (text, svg)
                print(png)
            except UserError as error:
                if name in asked:
                    raise
                drawn[heading] = (text, str(error))
    if args.report:
        shown = tables.runs.drop(columns="arm_order")
        write_text(output / "report.html", page.page("Runs of lowbit", drawn, shown))
        print(output / "report.html")
    return 0
