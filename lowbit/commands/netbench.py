"""Measure exchanges of gradients over links of a known rate, between processes on this machine.

  python -m lowbit netbench
  python -m lowbit netbench --ranks 4 --rates 100mbit,1gbit --density 0.01 --numel 1000000 --csv netbench.csv
  python -m lowbit netbench --train 60 --seeds 3 --rates 100mbit --trace results/traces_of_steps

Ranks run in network namespaces joined by virtual links (iproute2), shaped by tc; that needs root or CAP_NET_ADMIN and
CAP_SYS_ADMIN, and --latency the kernel's netem. Without, they talk over loopback, as fast as it goes, and no bytes are
counted. Namespaces and links go with this process, however it ends.

`payload` is what the exchanges say they send, `framed` what that should be with the headers of messages and packets
and with acknowledgements, `counted` what the kernel has counted at the interfaces. `exposed` is what an exchange adds
to a step without one. What it would cost on other networks: `python -m lowbit cost`.
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lowbit.network_spec import FEWEST_RANKS, MOST_RANKS, UNITS, bits_of, seconds_of

if TYPE_CHECKING:
    from lowbit.distributed.netbench import Group

_DEFAULTS = {"ranks_per_node": 1, "rates": (1e8, 1e9, 1e10), "latency": 0.0, "numel": 1_000_000}
_DEFAULTS |= {"rounds": 5, "seeds": 1}
"""Of options that are refused where they would have no effect."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure."""
    parser.add_argument("--ranks", type=_ranks, default=2, help="processes, 2 to 8 (default: 2)")
    parser.add_argument(
        "--ranks-per-node", type=_count, metavar="N", help="dense mean among so many first (default: 1)"
    )
    parser.add_argument(
        "--rates",
        type=lambda text: tuple(rate_of(part) for part in text.split(",")),
        metavar="RATE,...",
        help="of the links: numbers with kbit, mbit or gbit, or unlimited (default: 100mbit,1gbit,10gbit)",
    )
    parser.add_argument(
        "--latency", type=_seconds, help="of a packet from rank to rank, such as 1ms; needs netem (default: 0)"
    )
    parser.add_argument("--numel", type=_count, help="entries of the gradient (default: 1000000)")
    parser.add_argument("--density", type=_fraction, default=0.01, help="fraction of entries sent (default: 0.01)")
    parser.add_argument("--rounds", type=_count, help="exchanges of each kind (default: 5)")
    parser.add_argument(
        "--train", type=_count, metavar="STEPS", help="train a network of 1.1 million parameters instead"
    )
    parser.add_argument("--seeds", type=_count, help="repetitions of training (default: 1)")
    parser.add_argument(
        "--trace", type=Path, metavar="FOLDER", help="write a Chrome trace of steps of every training run of seed 0"
    )
    parser.add_argument("--loopback", action="store_true", help="no namespaces, even where they are possible")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows to this file too")


def run(args: argparse.Namespace) -> int:
    """Print a table as it grows, and write the CSV at the end.

    Raises:
        UserError: for an option that would have no effect, ranks that do not fill nodes, links that this kernel cannot
            make, or a rank that is lost.
    """
    from lowbit.atomic import write_text
    from lowbit.distributed import namespaces
    from lowbit.distributed.netbench import Group
    from lowbit.errors import UserError

    demand_effective(args)
    left_out = {name: value for name, value in _DEFAULTS.items() if getattr(args, name) is None}
    args = argparse.Namespace(**vars(args) | left_out)
    if args.ranks % args.ranks_per_node:
        raise UserError(f"--ranks-per-node {args.ranks_per_node}: must divide --ranks {args.ranks}")
    why = "asked for" if args.loopback else namespaces.what_is_missing()
    if not why:
        namespaces.demand_latency(args.latency)
    if why:
        print(f"loopback only, links of no set rate, no bytes counted: {why}")
    lines = ["benchmark,case,metric,value,unit"]
    try:
        with contextlib.ExitStack() as stack:
            group = Group(stack, args.ranks, loopback=bool(why), latency_seconds=args.latency)
            for rate in (None,) if why else args.rates:
                link = "loopback" if why else named(rate)
                for case, metric, value, unit in (_training if args.train else _exchanges)(args, group, rate, link):
                    if value is not None:
                        lines.append(f"netbench,{link} {case},{metric},{value!r},{unit}")
    finally:
        if args.csv:
            write_text(args.csv, "\n".join(lines) + "\n")
    return 0


def demand_effective(args: argparse.Namespace) -> None:
    """Refuse options that what is asked for does not look at.

    Raises:
        UserError: naming the option.
    """
    from lowbit.errors import UserError

    reasons = dict.fromkeys(("seeds", "trace"), "is for training; add --train STEPS, or leave it out")
    if args.train:
        names = ("ranks_per_node", "numel", "rounds")
        reasons = dict.fromkeys(names, "is for exchanges alone, and has no effect on training; leave it or --train out")
    if args.loopback:
        reasons |= dict.fromkeys(("rates", "latency"), "loopback is as fast as it goes; leave it or --loopback out")
    for name, why in reasons.items():
        if getattr(args, name) is not None:
            raise UserError(f"--{name.replace('_', '-')}: {why}")


def _exchanges(args: argparse.Namespace, group: "Group", rate: float | None, link: str) -> Iterator[tuple]:
    """Print a line for each exchange, and yield its rows."""
    from lowbit.distributed.measurements import COLUMNS, cases

    print(f"{args.ranks} ranks, {args.numel} float32 entries; an exchange, on the slowest rank")
    print(f"{'link':<10} {'exchange':<26} {'ms':>9} {'compress ms':>12} {'sums ms':>9} {COLUMNS}")
    asked = cases(args.numel, args.density, args.rounds, args.ranks_per_node)
    for m in group.measure(asked, rate):
        times = f"{1e3 * m.seconds:9.2f} {1e3 * m.compress_seconds:12.2f} {1e3 * m.decompress_seconds:9.2f}"
        print(f"{link:<10} {m.case.name:<26} {times} {m.traffic.columns}", flush=True)
        yield m.case.name, "exchange", m.seconds, "s"
        yield m.case.name, "compress", m.compress_seconds, "s"
        yield m.case.name, "decompress", m.decompress_seconds, "s"
        yield m.case.name, "wire", m.traffic.wire_bytes, "B"
        yield m.case.name, "framed", m.traffic.framed_bytes, "B"
        yield m.case.name, "counted", m.traffic.counted_bytes, "B"


def _training(args: argparse.Namespace, group: "Group", rate: float | None, link: str) -> Iterator[tuple]:
    """Print a line for each run, and yield its rows; dense sets the loss that others have more steps to reach."""
    from lowbit.distributed.measurements import COLUMNS, trainings

    heads = " ".join(f"{head:>8}" for head in ("step ms", "exposed", "loss", "seconds", "to goal", "of dense"))
    print(
        f"{args.ranks} ranks, a perceptron on digits; goal: validation loss of {args.train} steps with allreduce, "
        "when it is first reached; "
        "exposed: step minus that of noop"
    )
    print(f"{'link':<10} {'hook':<22} {'seed':>4} {heads} {COLUMNS}")
    ratios: dict[str, list[float]] = {}
    for seed in range(args.seeds):
        baseline, goal, dense = 0.0, float("inf"), None
        runs = trainings(args.train, args.density, seed, "" if seed or not args.trace else f"{args.trace}/{link}_")
        for t in group.measure(runs, rate):
            name, (seconds, loss) = t.training.name, t.curve[-1]
            baseline = t.step_seconds if name == "noop" else baseline
            if name == "allreduce":
                goal, dense = loss, t.seconds_to(loss)
            reached = None if dense is None else t.seconds_to(goal)
            ratio = None if reached is None else reached / dense
            if ratio is not None:
                ratios.setdefault(name, []).append(ratio)
            times = f"{1e3 * t.step_seconds:8.2f} {1e3 * (t.step_seconds - baseline):8.2f} {loss:8.4f} {seconds:8.2f}"
            when = f"{'never':>8} {'':>8}" if reached is None else f"{reached:8.2f} {ratio:8.3f}"
            print(f"{link:<10} {name:<22} {seed:>4} {times} {when} {t.traffic.columns}", flush=True)
            case = f"{name} seed {seed}" if args.seeds > 1 else name
            yield case, "step", t.step_seconds, "s"
            yield case, "exposed", t.step_seconds - baseline, "s"
            yield from ((case, phase, value, "s") for phase, value in t.phases.items())
            yield case, "loss", loss, "1"
            yield case, "to_goal", reached, "s"
            yield case, "to_goal_of_dense", ratio, "1"
            yield case, "wire", t.traffic.wire_bytes, "B"
            yield case, "framed", t.traffic.framed_bytes, "B"
            yield case, "counted", t.traffic.counted_bytes, "B"
    if args.seeds > 1:
        _print_ratios(ratios, args.seeds)
    if args.trace:
        _print_hidden(args.trace, link)


def _print_ratios(ratios: dict[str, list[float]], seeds: int) -> None:
    """Time to the goal as a fraction of the dense run's, over seeds."""
    import numpy as np

    from lowbit.analysis.statistics import paired

    print("time to the dense run's loss, of the dense run's time: geometric mean, 95 % t interval")
    for name, values in ratios.items():
        result = paired(np.log(values))
        mean, low, high = np.exp([result.mean, result.low_95, result.high_95])
        print(f"  {name:<22} {mean:.3f} [{low:.3f}, {high:.3f}], {len(values)} of {seeds} seeds reach it")


def _print_hidden(folder: Path, link: str) -> None:
    """How much of an exchange ran while gradients were computed, by the traces."""
    from lowbit.distributed.tracing import hidden

    for path in sorted(folder.glob(f"{link}_*.json")):
        inside, of_all = hidden(path)
        if of_all:
            print(f"{path}: {1e3 * inside:.2f} of {1e3 * of_all:.2f} ms of exchange while gradients were computed")


def rate_of(text: str) -> float | None:
    """Bits a second, of a text such as 100mbit; None for unlimited.

    Raises:
        argparse.ArgumentTypeError: for another text.
    """
    if text == "unlimited":
        return None
    try:
        return bits_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, or unlimited") from None


def named(rate: float | None) -> str:
    """The text of a rate."""
    if rate is None:
        return "unlimited"
    unit = next(u for u in ("gbit", "mbit", "kbit") if rate >= UNITS[u] or u == "kbit")
    return f"{rate / UNITS[unit]:g}{unit}"


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1 on")
    return int(text)


def _ranks(text: str) -> int:
    if not text.isdecimal() or not FEWEST_RANKS <= int(text) <= MOST_RANKS:
        why = "one alone exchanges nothing" if text == "1" else "that one machine can be asked to run"
        raise argparse.ArgumentTypeError(f"{text!r}: must be {FEWEST_RANKS} to {MOST_RANKS} processes; {why}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _fraction(text: str) -> float:
    try:
        if 0 < (value := float(text)) <= 1:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: must be in (0, 1], the fraction of entries that is sent")
