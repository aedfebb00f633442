"""Draw one figure of a study from its tables."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--study", required=True, help="name of the study")
    parser.add_argument("--name", required=True, help="name of the figure: a file of lowbit/analysis/figures/<study>")
    parser.add_argument("--tables", type=Path, required=True, help="folder of the study's tables")
    parser.add_argument("--verdicts", type=Path, required=True, help="folder of the verdict files")
    parser.add_argument("--output-png", type=Path, required=True, help="PNG to write")
    parser.add_argument("--output-svg", type=Path, required=True, help="SVG to write")


def run(args: argparse.Namespace) -> int:
    """Draw the figure and write it as PNG and SVG; the same tables give the same bytes."""
    from lowbit.analysis import figures, style, tables

    draw = figures.drawer(args.study, args.name)
    content = tables.load(args.study, args.tables, args.verdicts)
    with style.applied():
        style.save(draw(content), args.output_png, args.output_svg)
    return 0
