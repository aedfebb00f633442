"""Compile every CUDA kernel for GPUs that need not be there, and count the memory traffic of a call.

  python -m lowbit compile-kernels
  python -m lowbit compile-kernels --targets sm_90

Exit status: 0 when every kernel compiles and none spills registers into local memory, 1 otherwise.
"""

import argparse

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which GPUs."""
    parser.add_argument(
        "--targets",
        nargs="+",
        default=["sm_80", "sm_90", "sm_100"],
        choices=TARGETS,
        help="(default: sm_80 sm_90 sm_100)",
    )
    parser.add_argument("--processes", type=int, default=1, help="that compile at once (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Print a line for each kernel and target."""
    from tqdm import tqdm

    from lowbit.kernels.triton.compilation import compile_all

    print(f"{'kernel':<44} {'target':<8} {'registers':>9} {'shared bytes':>12} {'stack bytes':>11}")
    bad, total = 0, 0
    for one in tqdm(compile_all(tuple(args.targets), args.processes), disable=None, leave=False, unit=" kernels"):
        total, bad = total + 1, bad + bool(one.error or one.stack_bytes)
        numbers = f"{one.registers:>9} {one.shared_bytes:>12} {one.stack_bytes:>11}"
        spilled = "  spills" if one.stack_bytes else ""
        tqdm.write(f"{one.signature!s:<44} {one.target:<8} {one.error or numbers}{spilled}")
    print(f"{total} compiled, {bad} that fail or spill")
    return int(bad > 0)
