"""Does compression of gradients pay for this model, number of workers, link and density? Computed, not measured.

  python -m lowbit cost --entries 355M --workers 64 --rate 10gbit --density 0.01
  python -m lowbit cost --entries 7G --workers 1024 --rate 100gbit --assume tokens=4096 --assume latency_seconds=1e-5
  python -m lowbit benchmark compressors --device cuda --sizes 100000000 --density 0.01 --csv mine.csv
  python -m lowbit cost --entries 355M --workers 64 --rate 10gbit --density 0.01 --benchmark mine.csv

A step takes forward, backward, compression and sums, and what of the network is longer than backward. Per scheme are
printed the bytes that follow one another, that time, how many times faster it is than with the dense exchange, and the
density below which that is so (`pays below`; 0: never on these assumptions). Of bytes alone, against float32, this is
1/P for allgather, 1/2 for oktopk, (P-1)/(2 P log2 P) for gtopk, 1 for shared; against 16 bits, half of it.

Rules of thumb: compare the seconds of the dense exchange with those of backward: what backward hides, compression
cannot save. Few workers or densities below 1/P: allgather, the simplest. Many workers: oktopk or gtopk.

What is assumed of a worker and the network is printed above the table, and replaced by --assume or, for the time of the
compressor, by a CSV of your own `python -m lowbit benchmark compressors`. For the network, `python -m lowbit netbench`
prints the time of exchanges between real processes.
"""

import argparse
from pathlib import Path

from lowbit.network_spec import bits_of

_COUNTS = {"K": 1e3, "M": 1e6, "G": 1e9}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The case, and what is assumed."""
    parser.add_argument("--entries", type=_number, required=True, metavar="N", help="parameters, such as 355M or 7G")
    parser.add_argument("--workers", type=int, required=True, metavar="P", help="that train together")
    parser.add_argument("--rate", type=_rate, required=True, help="of every worker's link, such as 10gbit")
    parser.add_argument("--density", type=float, default=0.01, help="fraction of entries sent (default: 0.01)")
    parser.add_argument(
        "--assume", action="append", default=[], metavar="NAME=VALUE", help="another assumption; may be given again"
    )
    parser.add_argument("--benchmark", type=Path, metavar="CSV", help="of `benchmark compressors`: your own times")
    parser.add_argument("--compressor", help="whose time is taken from --benchmark (default: hggtopk)")


def run(args: argparse.Namespace) -> int:
    """Print assumptions, a line for each scheme, and the answer.

    Raises:
        UserError: for an assumption that does not exist, or numbers out of range.
    """
    from lowbit import cost

    demand_possible(args)
    assumed = _assumptions(args)
    print("assumed (not measured, but for what --assume and --benchmark say):")
    for name, field in type(assumed).model_fields.items():
        print(f"  {name:<28} {getattr(assumed, name):<10.4g} {field.description}")
    n, p = args.entries, args.workers
    hides = assumed.overlap * assumed.backward_seconds(n)
    print(f"\n{p} workers, {n:g} entries, {args.rate / 1e9:g} Gb/s, density {args.density:g}")
    print(f"forward and backward {_ms(assumed.compute_seconds(n))}; backward hides up to {_ms(hides)} of the network")
    print(
        f"{'scheme':<10} {'GB in a row':>12} {'network':>12} {'compute':>12} {'step':>12} {'times':>7} "
        f"{'pays below':>11}"
    )
    dense = assumed.step_seconds("dense", p, n, 1.0, args.rate)
    best = ("dense", 1.0)
    for scheme in cost.SCHEMES:
        width = assumed.dense_bytes if scheme == "dense" else assumed.value_bytes
        sent = cost.volume(scheme, p, n, args.density, width, trees=True)
        step = assumed.step_seconds(scheme, p, n, args.density, args.rate)
        network = cost.exchange_seconds(sent, assumed.link(args.rate))
        computing = assumed.compress_seconds(scheme, p, n, args.density)
        limit = "" if scheme == "dense" else f"{assumed.crossover(scheme, p, n, args.rate):11.3g}"
        columns = " ".join(f"{_ms(value):>12}" for value in (network, computing, step))
        print(f"{scheme:<10} {sent.in_row / 1e9:12.4g} {columns} {dense / step:7.2f} {limit}")
        if scheme != "shared" and dense / step > best[1]:
            best = (scheme, dense / step)
    print(answer(best, args.density))
    return 0


def answer(best: tuple[str, float], density: float) -> str:
    """In words: the scheme, and how many times faster it is than dense."""
    scheme, times = best
    if times < 1.05:
        gain = 100 * (times - 1)
        return f"It does not pay: a step with density {density:g} is at best {gain:.0f} % faster than a dense one."
    return f"It pays: a step with density {density:g} by {scheme} is {times:.2f} times faster than a dense one."


def demand_possible(args: argparse.Namespace) -> None:
    """Refuse numbers that no job has.

    Raises:
        UserError: naming the option.
    """
    from lowbit.errors import UserError

    if args.workers < 2:
        raise UserError(f"--workers {args.workers}: one alone exchanges nothing; at least 2")
    if not 0 < args.density <= 1:
        raise UserError(f"--density {args.density:g}: must be in (0, 1], the fraction of entries that is sent")
    if args.compressor and not args.benchmark:
        raise UserError(
            f"--compressor {args.compressor}: its time is taken from a benchmark; add --benchmark CSV of `python -m "
            f"lowbit benchmark compressors --names {args.compressor} --csv CSV`, or leave it out"
        )


def _assumptions(args: argparse.Namespace):
    from pydantic import ValidationError

    from lowbit import catalog
    from lowbit.cost_assumptions import Assumptions
    from lowbit.errors import UserError

    given = {}
    for text in args.assume:
        name, _, value = text.partition("=")
        if name not in Assumptions.model_fields:
            raise UserError(f"--assume {text}: {catalog.suggestion(name, Assumptions.model_fields)}")
        given[name] = value
    try:
        assumed = Assumptions.model_validate(given, strict=False)
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(f"--assume {fault['loc'][0]}={fault['input']}: {fault['msg']}") from None
    return (
        assumed.measured_by(args.benchmark, args.compressor or "hggtopk", args.density) if args.benchmark else assumed
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.4g} ms"


def _number(text: str) -> float:
    try:
        value = float(text[:-1]) * _COUNTS[text[-1]] if text[-1:] in _COUNTS else float(text)
    except ValueError:
        value = 0.0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of parameters, such as 355M or 7G")
    return value


def _rate(text: str) -> float:
    try:
        return bits_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
