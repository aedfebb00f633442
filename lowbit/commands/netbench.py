"""Measure exchanges of gradients over links of a known rate, between processes on this machine.

  python -m lowbit netbench
  python -m lowbit netbench --ranks 4 --rates 100mbit,1gbit --density 0.01 --numel 1000000 --csv netbench.csv
  python -m lowbit netbench --train 150 --rates 100mbit

Ranks run in network namespaces joined by virtual links (iproute2), shaped by tc; that needs root or CAP_NET_ADMIN and
CAP_SYS_ADMIN. Without, they talk over loopback, as fast as it goes, and no bytes are counted. Namespaces and links go
with this process, however it ends.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

_UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_HOOKS = ("allreduce", "bf16", "powersgd", "noop", "topk", "hggtopk")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure."""
    parser.add_argument("--ranks", type=_count, default=2, help="processes (default: 2)")
    parser.add_argument(
        "--rates",
        type=lambda text: tuple(_rate(part) for part in text.split(",")),
        default=(1e8, 1e9, 1e10),
        metavar="RATE,...",
        help="of the links: numbers with kbit, mbit or gbit, or unlimited (default: 100mbit,1gbit,10gbit)",
    )
    parser.add_argument("--numel", type=_count, default=1_000_000, help="entries of the gradient (default: 1000000)")
    parser.add_argument("--density", type=_fraction, default=0.01, help="fraction of entries sent (default: 0.01)")
    parser.add_argument("--rounds", type=_count, default=5, help="exchanges of each kind (default: 5)")
    parser.add_argument(
        "--train", type=_count, metavar="STEPS", help="train a network of 1.1 million parameters instead"
    )
    parser.add_argument("--loopback", action="store_true", help="no namespaces, even where they are possible")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows to this file too")


def run(args: argparse.Namespace) -> int:
    """Print a table as it grows, and write the CSV at the end."""
    from lowbit.atomic import write_text
    from lowbit.distributed import namespaces

    why = "asked for" if args.loopback else namespaces.what_is_missing()
    if why:
        print(f"loopback only, links of no set rate, no bytes counted: {why}")
    lines = ["benchmark,case,metric,value,unit"]
    try:
        for rate in (None,) if why else args.rates:
            link = "loopback" if why else _named(rate)
            for case, metric, value, unit in (_training if args.train else _exchanges)(args, rate, link, bool(why)):
                if value is not None:
                    lines.append(f"netbench,{link} {case},{metric},{value!r},{unit}")
    finally:
        if args.csv:
            write_text(args.csv, "\n".join(lines) + "\n")
    return 0


def _exchanges(args: argparse.Namespace, rate: float | None, link: str, loopback: bool) -> Iterator[tuple]:
    """Print a line for each exchange, and yield its rows."""
    from lowbit.distributed.netbench import Case, measure

    common = {"numel": args.numel, "rounds": args.rounds}
    cases = [Case("none", "dense", 1.0, dense_dtype=dtype, **common) for dtype in ("float32", "bfloat16")]
    cases += [Case("hggtopk", way, args.density, **common) for way in ("allgather", "gtopk", "oktopk")]
    cases.append(Case("randomkec", "shared", args.density, **common))
    print(f"{args.ranks} ranks, {args.numel} float32 entries; an exchange, on the slowest rank")
    print(f"{'link':<10} {'exchange':<26} {'ms':>9} {'compress ms':>12} {'wire bytes':>12} {'counted':>12} {'more':>7}")
    for m in measure(cases, args.ranks, rate, loopback=loopback):
        times = f"{1e3 * m.seconds:9.2f} {1e3 * m.compress_seconds:12.2f}"
        print(f"{link:<10} {m.case.name:<26} {times} {_bytes(m.wire_bytes, m.counted_bytes)}", flush=True)
        yield m.case.name, "exchange", m.seconds, "s"
        yield m.case.name, "compress", m.compress_seconds, "s"
        yield m.case.name, "wire", m.wire_bytes, "B"
        yield m.case.name, "counted", m.counted_bytes, "B"


def _training(args: argparse.Namespace, rate: float | None, link: str, loopback: bool) -> Iterator[tuple]:
    """Print a line for each hook, and yield its rows; dense sets the loss to reach, others may take twice its steps."""
    from lowbit.distributed.netbench import Training, train

    goal = None
    print(f"{args.ranks} ranks, a perceptron on digits; goal: validation loss of {args.train} steps with allreduce")
    print(
        f"{'link':<10} {'hook':<16} {'step ms':>9} {'loss':>8} {'seconds':>8} {'to goal':>8} "
        f"{'wire bytes':>12} {'counted':>12} {'more':>7}"
    )
    runs = [Training(name, args.density, args.train * (1 if name == "allreduce" else 2)) for name in _HOOKS]
    for t in train(runs, args.ranks, rate, loopback=loopback):
        name = t.training.hook if t.training.hook not in ("topk", "hggtopk") else f"{t.training.hook} {args.density:g}"
        seconds, loss = t.curve[-1]
        goal = loss if goal is None else goal
        reached = t.seconds_to(goal)
        when = "never" if reached is None else f"{reached:.2f}"
        told = f"{1e3 * t.step_seconds:9.2f} {loss:8.4f} {seconds:8.2f} {when:>8}"
        print(f"{link:<10} {name:<16} {told} {_bytes(t.wire_bytes, t.counted_bytes)}", flush=True)
        yield name, "step", t.step_seconds, "s"
        yield name, "loss", loss, "1"
        yield name, "to_goal", reached, "s"
        yield name, "wire", t.wire_bytes, "B"
        yield name, "counted", t.counted_bytes, "B"


def _bytes(wire: float, counted: float | None) -> str:
    if counted is None or wire == 0:
        return f"{wire:12.0f}"
    return f"{wire:12.0f} {counted:12.0f} {counted / wire - 1:7.1%}"


def _rate(text: str) -> float | None:
    if text == "unlimited":
        return None
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)(kbit|mbit|gbit)", text)) or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number with kbit, mbit or gbit, or unlimited")
    return float(match[1]) * _UNITS[match[2]]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1 on")
    return int(text)


def _fraction(text: str) -> float:
    try:
        if 0 < (value := float(text)) <= 1:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: must be in (0, 1], the fraction of entries that is sent")


def _named(rate: float | None) -> str:
    if rate is None:
        return "unlimited"
    unit = next(u for u in ("gbit", "mbit", "kbit") if rate >= _UNITS[u] or u == "kbit")
    return f"{rate / _UNITS[unit]:g}{unit}"
