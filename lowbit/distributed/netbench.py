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
from contextlib import ExitStack, suppress
from dataclasses import asdict
from statistics import median
from typing import Any

from lowbit.distributed import namespaces
from lowbit.distributed.measurements import PHASES, Case, Measured, Trained, Training, traffic_of
from lowbit.errors import UserError


class Group:
    """Processes that do exchanges and training runs, one after the other; started when the first is asked for.

    Args:
        stack: ends them when it is closed.
        ranks: number of processes.
        loopback: whether to do without namespaces: no limit, and no counting.
    """

    def __init__(self, stack: ExitStack, ranks: int, *, loopback: bool):
        self._stack, self._ranks, self._loopback = stack, ranks, loopback
        self._network: namespaces.Network | None = None
        self._processes: list[subprocess.Popen] = []

    def measure(self, jobs: Sequence[Case | Training], rate_bits: float | None) -> Iterator[Measured | Trained]:
        """Do some jobs over links of a rate, None for no limit.

        Yields:
            `Measured` of an exchange, `Trained` of a training run.

        Raises:
            UserError: when a rank fails.
        """
        if not self._processes:
            self._start()
        if self._network is not None:
            self._network.shape(rate_bits)
        packet = namespaces.payload_of_packet(rate_bits)
        for job in jobs:
            told = self._told(job)
            rounds = job.rounds if isinstance(job, Case) else job.steps
            traffic = traffic_of(told, rounds, not self._loopback, packet)
            if isinstance(job, Case):
                compress, decompress = (_mean_rank(told, phase) for phase in ("compress", "decompress"))
                yield Measured(job, _slowest(told), compress, decompress, traffic)
            else:
                phases = {name: median(told[0][name]) for name in PHASES}
                yield Trained(job, _slowest(told), phases, traffic, curve=[tuple(point) for point in told[0]["curve"]])

    def _start(self) -> None:
        places: list[list[str]] = [[]] * self._ranks
        where = {"GLOO_SOCKET_IFNAME": "lo"}
        if self._loopback:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                where |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        else:
            self._network = self._stack.enter_context(namespaces.network(self._ranks))
            places = self._network.places
            where = {"MASTER_ADDR": namespaces.address(0), "MASTER_PORT": "29500"}
            where["GLOO_SOCKET_IFNAME"] = namespaces.INTERFACE
        for rank, place in enumerate(places):
            own = {"RANK": str(rank), "WORLD_SIZE": str(self._ranks), "LOWBIT_PARENT": str(os.getpid())}
            process = subprocess.Popen(
                [*place, sys.executable, "-m", "lowbit.distributed.link_rank"],
                env={"OMP_NUM_THREADS": "1", **os.environ, **where, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._stack.callback(process.wait)
            self._stack.callback(process.kill)
            self._processes.append(process)

    def _told(self, job: Case | Training) -> list[dict[str, Any]]:
        """What every rank tells of a job."""
        for process in self._processes:
            with suppress(BrokenPipeError):  # it has ended, which is found out below
                process.stdin.write(json.dumps({"kind": type(job).__name__, **asdict(job)}) + "\n")
                process.stdin.flush()
        return [_line(rank, process) for rank, process in enumerate(self._processes)]


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
