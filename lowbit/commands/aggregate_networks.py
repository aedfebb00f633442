"""Turn the run of the network study into tables and verdicts, and compute what exchanges would cost elsewhere."""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--results", type=Path, default=Path("results"), help="root of the outputs")
    parser.add_argument("--extrapolation", required=True, metavar="JSON", help="machines on paper")
    parser.add_argument("--verdicts", type=Path, required=True, help="verdict file to write")
    parser.add_argument("--tables", type=Path, required=True, help="folder of the tables to write")


def run(args: argparse.Namespace) -> int:
    """Fit the model, write the study's tables and the verdict file."""
    from lowbit.analysis import network_verdicts, networks, tables, verdicts

    _, summary, records = networks.read_run(args.results)
    machine, extrapolation = summary["machine"], json.loads(args.extrapolation)
    hardware = f"{summary['device']}: {machine['processor']}, {machine['cores']} cores"
    model = networks.fit(records)
    contents = {
        "runs": networks.measurements_table(records, model, hardware, summary["device"]),
        "curves": networks.extrapolated_table(extrapolation),
        "comparisons": networks.crossovers_table(extrapolation),
        "fits": networks.fits_table(records, model),
        "assumptions": networks.assumptions_table(extrapolation),
    }
    for name, content in contents.items():
        tables.write(args.tables / f"{networks.STUDY}_{name}.csv", content)
    judged = network_verdicts.judge(contents["runs"], summary["why_loopback"])
    verdicts.write(args.verdicts, networks.STUDY, judged)
    return 0
