"""Turn the finished runs of the estimator study into tables, comparisons and verdicts."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--results", type=Path, default=Path("results"), help="root of the outputs")
    parser.add_argument("--design", required=True, help="study, baseline and runs, as JSON or a JSON file")
    parser.add_argument("--verdicts", type=Path, required=True, help="verdict file to write")
    parser.add_argument("--tables", type=Path, required=True, help="folder of the tables to write")


def run(args: argparse.Namespace) -> int:
    """Read every run of the design, write its tables and the verdict file."""
    from lowbit.analysis import design, estimate_verdicts, estimates, tables, verdicts
    from lowbit.analysis.estimate_comparisons import comparisons_table

    plan = design.parse(args.design)
    finished = list(estimates.read_study(args.results, plan))
    table = estimates.estimates_table(finished, plan)
    contents = {
        "runs": table,
        "curves": estimates.curves_table(finished, plan),
        "comparisons": comparisons_table(table, plan),
        "layers": estimates.layers_table(finished, plan),
        "descents": estimates.descents_table(finished, plan),
    }
    for name, content in contents.items():
        tables.write(args.tables / f"{plan.study}_{name}.csv", content)
    verdicts.write(args.verdicts, plan.study, estimate_verdicts.judge(plan, table))
    return 0
