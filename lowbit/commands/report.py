"""Build the HTML report of finished results, opening on the verdicts (called by the pipeline's last rule).

It lets Snakemake write its own report of the workflow that started this command: LOWBIT_WORKFLOW holds that
Snakemake's arguments as a JSON list. By hand: snakemake --report report.html
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the verdicts are and where the report goes."""
    parser.add_argument("--verdicts", type=Path, required=True, metavar="RST", help="verdicts as reStructuredText")
    parser.add_argument("--output", type=Path, required=True, metavar="HTML", help="report to write")


def run(args: argparse.Namespace) -> int:
    """Run `snakemake --report` beside the running workflow."""
    from lowbit.atomic import replacing
    from lowbit.errors import UserError

    if "LOWBIT_WORKFLOW" not in os.environ:
        raise UserError("this command is called by the rule report_page; by hand use: snakemake --report report.html")
    arguments = json.loads(os.environ["LOWBIT_WORKFLOW"])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as overlay, replacing(args.output) as page:
        json.dump({"verdicts_rst": args.verdicts.read_text(encoding="utf-8")}, overlay)
        overlay.flush()
        end_of_files = arguments.index("--config") if "--config" in arguments else len(arguments)
        arguments.insert(end_of_files, overlay.name)
        # The lock is held by the workflow that this report is about.
        command = [sys.executable, "-m", "snakemake", "figures", "summary", "--nolock", "--workflow-profile", "none"]
        done = subprocess.run([*command, "--report", str(page), *arguments], check=False)
        if done.returncode:
            raise UserError(f"snakemake --report failed with status {done.returncode}; its message stands above")
    return 0
