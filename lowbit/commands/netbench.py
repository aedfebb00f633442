"""Measure exchanges of gradients over links of a known rate, between processes on this machine.

  python -m lowbit netbench
  python -m lowbit netbench --ranks 4 --rates 100mbit,1gbit --density 0.01 --numel 1000000 --csv netbench.csv

Ranks run in network namespaces joined by virtual links (iproute2), shaped by tc; that needs root or CAP_NET_ADMIN and
CAP_SYS_ADMIN. Without, they talk over loopback, as fast as it goes, and no bytes are counted. Namespaces and links go
with this process, however it ends.
"""

import argparse
import re
from pathlib import Path

_UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure."""
    parser.add_argument("--ranks", type=int, default=2, help="processes (default: 2)")
    parser.add_argument(
        "--rates",
        type=lambda text: tuple(_rate(part) for part in text.split(",")),
        default=(1e8, 1e9, 1e10),
        metavar="RATE,...",
        help="of the links: numbers with kbit, mbit or gbit, or unlimited (default: 100mbit,1gbit,10gbit)",
    )
    parser.add_argument("--numel", type=int, default=1_000_000, help="entries of the gradient (default: 1000000)")
    parser.add_argument("--density", type=float, default=0.01, help="fraction of entries sent (default: 0.01)")
    parser.add_argument("--rounds", type=int, default=5, help="exchanges of each kind (default: 5)")
    parser.add_argument("--loopback", action="store_true", help="no namespaces, even where they are possible")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows to this file too")


def run(args: argparse.Namespace) -> int:
    """Print a table as it grows, and write the CSV at the end."""
    from lowbit.atomic import write_text
    from lowbit.distributed import namespaces
    from lowbit.distributed.netbench import Case, measure

    why = "asked for" if args.loopback else namespaces.what_is_missing()
    if why:
        print(f"loopback only, links of no set rate, no bytes counted: {why}")
    cases = [
        Case("none", "dense", 1.0, args.numel, rounds=args.rounds),
        Case("none", "dense", 1.0, args.numel, "bfloat16", rounds=args.rounds),
        *(
            Case("hggtopk", way, args.density, args.numel, rounds=args.rounds)
            for way in ("allgather", "gtopk", "oktopk")
        ),
        Case("randomkec", "shared", args.density, args.numel, rounds=args.rounds),
    ]
    print(f"{args.ranks} ranks, {args.numel} float32 entries; an exchange, on the slowest rank")
    print(f"{'link':<10} {'exchange':<26} {'ms':>9} {'compress ms':>12} {'wire bytes':>12} {'counted':>12} {'more':>7}")
    lines = []
    for rate in (None,) if why else args.rates:
        link = "loopback" if why else _named(rate)
        for m in measure(cases, args.ranks, rate, loopback=bool(why)):
            more = "" if m.counted_bytes is None else f"{m.counted_bytes / m.wire_bytes - 1:7.1%}"
            counted = "" if m.counted_bytes is None else f"{m.counted_bytes:12.0f}"
            print(
                f"{link:<10} {m.case.name:<26} {1e3 * m.seconds:9.2f} {1e3 * m.compress_seconds:12.2f} "
                f"{m.wire_bytes:12.0f} {counted:>12} {more:>7}",
                flush=True,
            )
            case = f"{link} {m.case.name}"
            lines += [f"netbench,{case},exchange,{m.seconds!r},s", f"netbench,{case},compress,{m.compress_seconds!r},s"]
            lines.append(f"netbench,{case},wire,{m.wire_bytes!r},B")
            if m.counted_bytes is not None:
                lines.append(f"netbench,{case},counted,{m.counted_bytes!r},B")
    if args.csv:
        write_text(args.csv, "\n".join(["benchmark,case,metric,value,unit", *lines]) + "\n")
    return 0


def _rate(text: str) -> float | None:
    if text == "unlimited":
        return None
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)(kbit|mbit|gbit)", text)):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number with kbit, mbit or gbit, or unlimited")
    return float(match[1]) * _UNITS[match[2]]


def _named(rate: float | None) -> str:
    if rate is None:
        return "unlimited"
    unit = next(u for u in ("gbit", "mbit", "kbit") if rate >= _UNITS[u] or u == "kbit")
    return f"{rate / _UNITS[unit]:g}{unit}"
