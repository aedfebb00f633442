"""Print the verdicts of all studies, and write them as text and as a table for the report."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--verdicts", type=Path, nargs="+", required=True, metavar="FILE", help="verdict files")
    parser.add_argument("--output", type=Path, required=True, help="text file to write")
    parser.add_argument("--rst", type=Path, help="reStructuredText file to write, for the report")


def run(args: argparse.Namespace) -> int:
    """Write and print the summary."""
    from lowbit.analysis import summary, verdicts
    from lowbit.atomic import write_text

    records = [verdict for path in args.verdicts for verdict in verdicts.read(path)]
    text = summary.text(records)
    write_text(args.output, text)
    if args.rst:
        write_text(args.rst, summary.rst(records))
    print(text, end="")
    return 0
