"""Turn the finished runs of the compressor study into tables, pages of the report and verdicts."""

import argparse
from pathlib import Path

TITLES = {
    "matrix": "Compressors: what they send, keep and cost",
    "audit": "Claims about compressors, and what was measured",
    "modes": "Code as published (reference) against what it describes (fixed)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--results", type=Path, default=Path("results"), help="root of the outputs")
    parser.add_argument(
        "--tasks", type=lambda text: text.split(","), default=["speed", "quality"], help="runs (default: speed,quality)"
    )
    parser.add_argument("--verdicts", type=Path, required=True, help="verdict file to write")
    parser.add_argument("--tables", type=Path, required=True, help="folder of the tables to write")


def run(args: argparse.Namespace) -> int:
    """Read the runs of the study, write its tables, pages and the verdict file."""
    from lowbit.analysis import compression_tables, compression_verdicts, compressions, tables, verdicts

    finished = compressions.read_study(args.results, args.tasks)
    quality = finished.pop("quality")
    speeds = list(finished.values())
    contents = {
        "runs": compressions.runs_table(speeds),
        "curves": compressions.curves_table(quality),
        "comparisons": compressions.comparisons_table(quality),
        "costs": compressions.costs_table(quality),
        "steps": compressions.steps_table(speeds),
    }
    contents["benchmark"] = compressions.benchmark_table(contents["runs"])
    contents["slopes"] = compressions.slopes_table(contents["runs"])
    judged = compression_verdicts.judge(*(contents[name] for name in ("runs", "steps", "slopes", "comparisons")))
    contents["matrix"] = compression_tables.matrix_table(
        quality.spec, *(contents[name] for name in ("costs", "slopes", "comparisons"))
    )
    contents["modes"] = compression_tables.modes_table(contents["comparisons"])
    contents["audit"] = compression_tables.audit_table(judged)
    for name, content in contents.items():
        tables.write(args.tables / f"{compression_verdicts.STUDY}_{name}.csv", content)
    for name, title in TITLES.items():
        page = args.tables / f"{compression_verdicts.STUDY}_{name}.html"
        compression_tables.write_page(
            page, f"{title} ({' and '.join(speed.hardware for speed in speeds)})", contents[name]
        )
    verdicts.write(args.verdicts, compression_verdicts.STUDY, judged)
    return 0
