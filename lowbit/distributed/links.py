"""The network study's run: exchanges and training, link by link, as records."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from lowbit import cost
from lowbit.distributed import namespaces, tracing
from lowbit.distributed.measurements import Case, Measured, cases, trainings
from lowbit.distributed.netbench import Group
from lowbit.network_spec import NetworkSpec, bits_of, seconds_of
from lowbit.pieces import Pieces, Record

LOOPBACK = "loopback"
TRACES = {True: "trace.json", False: "trace_waits.json"}
"""Chrome traces of some steps, in the pipeline and without."""
_MORE_ROUNDS, _MORE_STEPS = 10.0, 5.0
_HOOKS = ("noop", "allreduce", "bf16", "hggtopk")


def pieces(spec: NetworkSpec, why_loopback: str, traces: Path, stack: ExitStack) -> Pieces:
    """What is measured, link by link, by the same processes: to start some takes longer than to measure.

    Args:
        spec: of the run.
        why_loopback: why there can be no links; empty where there can.
        traces: folder for `TRACES`, of training with a sparse hook on the first link.
        stack: ends the processes when it is closed.
    """
    links = (LOOPBACK,) if why_loopback else (*spec.links.fitted, *spec.links.held_out)
    group = Group(stack, spec.ranks, loopback=bool(why_loopback), latency_seconds=seconds_of(spec.links.latency))
    return {link: partial(_measured, group, spec, link, traces if link == links[0] else None) for link in links}


def repeats(spec: NetworkSpec, link: str, case: Case) -> float:
    """How many times as often as the largest dense exchange on the slowest link one is measured, which takes less.

    Args:
        spec: of the run.
        link: one of its links, or loopback.
        case: the exchange.
    """
    width = getattr(torch, case.dense_dtype).itemsize
    longest = cost.volume("dense", spec.ranks, max(*spec.sizes.fitted, *spec.sizes.held_out)).in_row
    own = cost.volume(case.scheme, spec.ranks, case.numel, case.density, width).in_row
    return min(_MORE_ROUNDS, _faster(spec, link) * longest / own)


def _faster(spec: NetworkSpec, link: str) -> float:
    """A link's rate over that of the slowest."""
    rates = [bits_of(rate) for rate in (*spec.links.fitted, *spec.links.held_out)]
    return 1.0 if link == LOOPBACK else bits_of(link) / min(rates)


def _measured(group: Group, spec: NetworkSpec, link: str, traces: Path | None) -> Iterator[Record]:
    rate = None if link == LOOPBACK else bits_of(link)
    place = {"link": link, "rate_bits": rate, "ranks": spec.ranks, "density": spec.density}
    place["held_out_link"] = link in spec.links.held_out
    place["latency_seconds"] = 0.0 if rate is None else seconds_of(spec.links.latency)
    sizes = (*spec.sizes.fitted, *spec.sizes.held_out)
    asked = [
        replace(c, rounds=round(spec.rounds * repeats(spec, link, c)))
        for n in sizes
        for c in cases(n, spec.density, spec.rounds)
    ]
    runs = [t for t in trainings(spec.train_steps, spec.density) if t.hook in _HOOKS]
    steps = round(spec.train_steps * min(_MORE_STEPS, _faster(spec, link)))
    runs = [replace(t, steps=max(t.steps, steps)) for t in runs]
    if traces is not None:
        runs = [replace(t, trace=str(traces / TRACES[t.pipeline])) if t.hook == "hggtopk" else t for t in runs]
    for found in group.measure([*asked, *runs], rate):
        traffic = found.traffic
        common = {
            **place,
            "payload_bytes": traffic.wire_bytes,
            "messages": traffic.messages,
            "messages_in_row": traffic.messages_in_row,
            "framed_bytes": traffic.framed_bytes,
            "counted_bytes": traffic.counted_bytes,
            "payload_of_packet": traffic.payload_of_packet,
        }
        if isinstance(found, Measured):
            case = found.case
            yield {
                "type": "exchange",
                **common,
                "method": case.name,
                "scheme": case.scheme,
                "entries": case.numel,
                "held_out_size": case.numel in spec.sizes.held_out,
                "value_bytes": 2 if case.dense_dtype == "bfloat16" else 4,
                "seconds": found.seconds,
                "compute_seconds": found.compress_seconds + found.decompress_seconds,
            }
        else:
            run = found.training
            hidden, traced = tracing.hidden(Path(run.trace)) if run.trace else (None, None)
            yield {
                "type": "training",
                **common,
                "method": run.name,
                "seconds": found.step_seconds,
                **{f"{name}_seconds": seconds for name, seconds in found.phases.items()},
                "traced_exchange_seconds": traced,
                "hidden_seconds": hidden,
            }


def why_loopback(spec: NetworkSpec) -> str:
    """Why no links can be made here; empty where they can.

    Raises:
        UserError: when they can, but not with the latency that is asked for.
    """
    if not (why := namespaces.what_is_missing()):
        namespaces.demand_latency(seconds_of(spec.links.latency))
    return why
