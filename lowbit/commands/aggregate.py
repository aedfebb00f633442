"""Turn the finished runs of a study into tables, comparisons and verdicts."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--study", required=True, help="name of the study")
    parser.add_argument("--results", type=Path, default=Path("results"), help="root of the outputs")
    parser.add_argument(
        "--design", required=True, help="study, baseline, treatment, controls and runs, as JSON or a JSON file"
    )
    parser.add_argument("--verdicts", type=Path, required=True, help="verdict file to write")
    parser.add_argument("--tables", type=Path, required=True, help="folder of the tables to write")


def run(args: argparse.Namespace) -> int:
    """Read every run of the design, write `<study>_{runs,curves,comparisons,...}.csv` and the verdict file."""
    from lowbit.analysis import controls, design, exchanges, rows, runs, tables, timings, verdicts
    from lowbit.analysis.comparisons import comparisons_table
    from lowbit.errors import UserError

    plan = design.parse(args.design)
    if plan.study != args.study:
        raise UserError(f"--study {args.study}: the design is of study {plan.study}; pass the design of {args.study}")
    finished = list(runs.read_study(args.results, plan))
    if plan.study == "exchange":
        finished = list(timings.side_by_side(finished, args.results))
    table = rows.runs_table(finished, plan)
    comparisons = comparisons_table(table, plan)
    judged = verdicts.judge(plan, table, comparisons, controls.check(finished, plan))
    contents = {"runs": table, "curves": rows.curves_table(finished), "comparisons": comparisons}
    for name in design.FURTHER.get(plan.study, ()):
        contents[name] = getattr(exchanges, f"{name}_table")(table)
    for name, content in contents.items():
        tables.write(args.tables / f"{plan.study}_{name}.csv", content)
    verdicts.write(args.verdicts, plan.study, judged)
    return 0
