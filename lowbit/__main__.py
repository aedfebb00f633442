"""`python -m lowbit <command>`: finds the command's file, and imports no more than that."""

import argparse
import ast
import gc
import importlib
import logging
import os
import sys
from pathlib import Path

from lowbit import __version__
from lowbit.errors import UserError

COMMANDS = Path(__file__).parent / "commands"


def _commands() -> dict[str, str]:
    """Command name -> first line of its file's docstring, without importing it."""
    files = sorted(p for p in COMMANDS.glob("*.py") if p.stem[0] != "_")
    docs = {p.stem: ast.get_docstring(ast.parse(p.read_text(encoding="utf-8"))) or "" for p in files}
    return {name.replace("_", "-"): doc.partition("\n")[0] for name, doc in docs.items()}


def _overview() -> argparse.ArgumentParser:
    commands = _commands()
    width = max(map(len, commands))
    listing = "\n".join(f"  {name:<{width}}  {text}" for name, text in commands.items())
    parser = argparse.ArgumentParser(
        prog="python -m lowbit",
        description="Claims about training 1-2 bit networks, put to the test.",
        epilog=f"commands:\n{listing}\n\nEach explains itself: python -m lowbit <command> --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lowbit {__version__}")
    parser.add_argument("command", choices=commands, metavar="command", help="what to do")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    name = _overview().parse_args(argv[:1]).command
    module = importlib.import_module(f"lowbit.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"python -m lowbit {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    args = parser.parse_args(argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    if parent := os.environ.get("LOWBIT_PARENT"):
        from lowbit.processes import die_with

        die_with(int(parent))
    try:
        return module.run(args)
    except UserError as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    gc.set_threshold(10_000, 10, 10)  # PyTorch's import makes a million objects, and nothing that could be collected
    sys.exit(main())
