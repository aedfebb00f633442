"""Exchanges of gradients, and training, between processes on this machine, over links of a known rate.

Every rank is a process of its own (`link_rank.py`), in a network namespace of its own where that is possible. Measured
are seconds on the slowest rank, the payload that an exchange says it sends, and the bytes that the interfaces of all
ranks sent in that time, framing and acknowledgements included.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from statistics import median
from typing import Any

from lowbit.distributed import namespaces
from lowbit.distributed.measurements import PHASES, Case, Measured, Trained, Training, traffic_of
from lowbit.errors import UserError


def measure(
    jobs: Sequence[Case | Training], ranks: int, rate_bits: float | None, *, loopback: bool
) -> Iterator[Measured | Trained]:
    """Do exchanges and training runs one after the other, in one group of processes.

    Args:
        jobs: what to measure.
        ranks: number of processes.
        rate_bits: of every link; None for no limit.
        loopback: whether to do without namespaces: no limit, and no counting.

    Yields:
        `Measured` of an exchange, `Trained` of a training run.

    Raises:
        UserError: when a rank fails; all are killed then.
    """
    packet = namespaces.payload_of_packet(rate_bits)
    for job, told in _answers(jobs, ranks, rate_bits, loopback):
        rounds = job.rounds if isinstance(job, Case) else job.steps
        traffic = traffic_of(told, rounds, not loopback, packet)
        if isinstance(job, Case):
            yield Measured(job, _slowest(told), _mean_rank(told, "compress"), _mean_rank(told, "decompress"), traffic)
        else:
            phases = {name: median(told[0][name]) for name in PHASES}
            yield Trained(job, _slowest(told), phases, traffic, curve=[tuple(point) for point in told[0]["curve"]])


def _answers(
    jobs: Sequence[Any], ranks: int, rate_bits: float | None, loopback: bool
) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Each job, and what every rank tells of it."""
    with ExitStack() as stack:
        if loopback:
            places: list[list[str]] = [[]] * ranks
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
            where["GLOO_SOCKET_IFNAME"] = "lo"
        else:
            places = stack.enter_context(namespaces.network(ranks, rate_bits))
            where = {"MASTER_ADDR": namespaces.address(0), "MASTER_PORT": "29500"}
            where["GLOO_SOCKET_IFNAME"] = namespaces.INTERFACE
        told = json.dumps([{"kind": type(job).__name__, **asdict(job)} for job in jobs])
        started = []
        for rank, place in enumerate(places):
            own = {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOWBIT_PARENT": str(os.getpid())}
            process = subprocess.Popen(
                [*place, sys.executable, "-m", "lowbit.distributed.link_rank", told],
                env={"OMP_NUM_THREADS": "1", **os.environ, **where, **own},
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append(process)
        for job in jobs:
            yield job, [_line(rank, process) for rank, process in enumerate(started)]


def _line(rank: int, process: subprocess.Popen) -> dict[str, Any]:
    line = process.stdout.readline()
    if not line:
        raise UserError(f"rank {rank} of the measurement ended with status {process.wait()}; see its messages above")
    return json.loads(line)


def _slowest(told: list[dict[str, Any]]) -> float:
    """Median over rounds of the slowest rank's seconds."""
    return median(max(of_ranks) for of_ranks in zip(*(t["seconds"] for t in told), strict=True))


def _mean_rank(told: list[dict[str, Any]], phase: str) -> float:
    """Median over rounds of the mean over ranks."""
    return median(sum(of_ranks) / len(told) for of_ranks in zip(*(t[phase] for t in told), strict=True))
