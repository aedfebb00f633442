"""Compile every CUDA kernel for GPUs that need not be there, and count the memory traffic of a call.

  python -m lowbit compile-kernels
  python -m lowbit compile-kernels --targets sm_90 --processes 2

Exit status: 0 when every kernel compiles and none spills registers into local memory, 1 otherwise, and when there are
none.
"""

import argparse

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which GPUs."""
    default = ["sm_80", "sm_90", "sm_100"]
    parser.add_argument(
        "--targets", nargs="+", choices=TARGETS, default=default, help=f"(default: {' '.join(default)})"
    )
    parser.add_argument("--processes", type=int, default=1, help="that compile at once (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Print a line for each kernel and target, then the traffic.

    Raises:
        UserError: when Triton is told to interpret.
    """
    import os

    from tqdm import tqdm

    from lowbit.errors import UserError

    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        raise UserError("TRITON_INTERPRET is set: Triton would not compile; unset it")
    from lowbit.kernels.triton.compilation import compile_all

    print(f"{'kernel':<48} {'target':<8} {'registers':>9} {'shared bytes':>12} {'stack bytes':>11}")
    total = bad = 0
    for one in tqdm(compile_all(args.targets, args.processes), disable=None, leave=False, unit=" kernels"):
        total, bad = total + 1, bad + bool(one.error or one.stack_bytes)
        numbers = f"{one.registers:>9} {one.shared_bytes:>12} {one.stack_bytes:>11}"
        fault = "  spills" if one.stack_bytes else ""
        tqdm.write(f"{one.signature!s:<48} {one.target:<8} {one.error or numbers}{fault}")
    print(f"{total} compiled, {bad} of them fail or spill")
    _print_traffic()
    return int(bad > 0 or total == 0)


def _print_traffic() -> None:
    from lowbit.kernels.triton import traffic

    print(
        f"\nmemory traffic of a call, bytes an entry: float32, {traffic.SIZE} entries, density {traffic.DENSITY}\n"
        f"{'':<60} {'gradient, residual':>18} {'all else':>9}"
    )
    with traffic.interpreting_process() as process:
        for finite, words in ((False, "sums are checked"), (True, "sums are known to be finite")):
            rows = process.submit(traffic.count, finite=finite).result()
            for route in dict.fromkeys(row.route for row in rows):
                passed = [row for row in rows if row.route == route]
                dense, other = sum(row.dense_bytes for row in passed), sum(row.other_bytes for row in passed)
                print(f"{f'select_largest, {words}, {route}':<60} {dense:>18.2f} {other:>9.2f}")
    print(f"{'residual.add_(gradient), the floor':<60} {traffic.FLOOR:>18.2f}")
    print(f"{'torch.topk with error feedback, not counted: by its source':<60} {traffic.TOPK:>18.2f}")
