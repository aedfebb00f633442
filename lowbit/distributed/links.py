"""The network study's run: exchanges and training, link by link, as records."""

from collections.abc import Iterator
from functools import partial

from lowbit.distributed import namespaces
from lowbit.distributed.measurements import Traffic, cases, trainings
from lowbit.distributed.netbench import measure, train
from lowbit.network_spec import NetworkSpec, bits_of
from lowbit.pieces import Pieces, Record

LOOPBACK = "loopback"
_HOOKS = ("noop", "allreduce", "bf16", "hggtopk")


def pieces(spec: NetworkSpec, why_loopback: str) -> Pieces:
    """What is measured, link by link.

    Args:
        spec: of the run.
        why_loopback: why there can be no links; empty where there can.
    """
    links = (LOOPBACK,) if why_loopback else (*spec.links.fitted, *spec.links.held_out)
    return {link: partial(_measured, spec, link) for link in links}


def _measured(spec: NetworkSpec, link: str) -> Iterator[Record]:
    rate = None if link == LOOPBACK else bits_of(link)
    place = {"link": link, "rate_bits": rate, "ranks": spec.ranks, "density": spec.density}
    place["held_out_link"] = link in spec.links.held_out
    sizes = (*spec.sizes.fitted, *spec.sizes.held_out)
    rounds = {n: min(6 * spec.rounds, spec.rounds * max(sizes) // n) for n in sizes}  # small ones vary more
    asked = [c for n in sizes for c in cases(n, spec.density, rounds[n])]
    for m in measure(asked, spec.ranks, rate, loopback=rate is None):
        yield {
            "type": "exchange",
            **place,
            "method": m.case.name,
            "scheme": m.case.scheme,
            "entries": m.case.numel,
            "held_out_size": m.case.numel in spec.sizes.held_out,
            "value_bytes": 2 if m.case.dense_dtype == "bfloat16" else 4,
            "seconds": m.seconds,
            "compute_seconds": m.compress_seconds + m.decompress_seconds,
            **_traffic(m.traffic),
        }
    runs = [t for t in trainings(spec.train_steps, spec.density) if t.hook in _HOOKS and t.pipeline]
    for t in train(runs, spec.ranks, rate, loopback=rate is None) if spec.train_steps else ():
        yield {
            "type": "training",
            **place,
            "method": t.training.name,
            "seconds": t.step_seconds,
            **{f"{name}_seconds": seconds for name, seconds in t.phases.items()},
            **_traffic(t.traffic),
        }


def _traffic(traffic: Traffic) -> Record:
    return {
        "payload_bytes": traffic.wire_bytes,
        "messages": traffic.messages,
        "framed_bytes": traffic.framed_bytes,
        "counted_bytes": traffic.counted_bytes,
        "payload_of_packet": traffic.payload_of_packet,
    }


def why_loopback() -> str:
    """Why no links can be made here; empty where they can."""
    return namespaces.what_is_missing()
