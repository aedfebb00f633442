"""Exchanges of gradients between processes on this machine, over links of a known rate, counted by the kernel.

Every rank is a process of its own (`link_rank.py`), in a network namespace of its own where that is possible. Per case:
seconds of an exchange on the slowest rank, the payload that the exchange says it sends, and the bytes that the
interfaces of all ranks sent in that time, framing and acknowledgements included.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median

from lowbit.distributed import namespaces
from lowbit.errors import UserError


@dataclass(frozen=True)
class Case:
    """An exchange to measure.

    Args:
        compressor: name.
        scheme: name.
        density: fraction of entries sent.
        numel: entries of the gradient.
        dense_dtype: of numbers on the wire that are not compressed: `float32`, or one of 16 bits.
        rounds: exchanges that are measured.
    """

    compressor: str
    scheme: str
    density: float
    numel: int
    dense_dtype: str = "float32"
    rounds: int = 5

    @property
    def name(self) -> str:
        """For tables."""
        if self.compressor == "none":
            return f"dense {self.dense_dtype}"
        return f"{self.compressor} {self.density:g} {self.scheme}"


@dataclass(frozen=True)
class Measured:
    """What a case has cost.

    Args:
        case: that was measured.
        seconds: of an exchange, median over rounds of the slowest rank's.
        compress_seconds: of it on compression, mean over ranks.
        wire_bytes: payload of an exchange, sum over ranks.
        counted_bytes: what the interfaces have sent in an exchange, sum over ranks; None on loopback.
    """

    case: Case
    seconds: float
    compress_seconds: float
    wire_bytes: float
    counted_bytes: float | None


def measure(cases: list[Case], ranks: int, rate_bits: float | None, *, loopback: bool) -> Iterator[Measured]:
    """Measure cases one after the other, in one group of processes.

    Args:
        cases: what to measure.
        ranks: number of processes.
        rate_bits: of every link; None for no limit.
        loopback: whether to do without namespaces: no limit, and no counting.

    Raises:
        UserError: when a rank fails; all are killed then.
    """
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
        told = json.dumps([asdict(case) for case in cases])
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
        for case in cases:
            yield _together(case, [_line(rank, process) for rank, process in enumerate(started)], loopback)


def _line(rank: int, process: subprocess.Popen) -> dict:
    line = process.stdout.readline()
    if not line:
        raise UserError(f"rank {rank} of the measurement ended with status {process.wait()}; see its messages above")
    return json.loads(line)


def _together(case: Case, told: list[dict], loopback: bool) -> Measured:
    rounds = zip(*(t["seconds"] for t in told), strict=True)
    return Measured(
        case,
        seconds=median(max(of_ranks) for of_ranks in rounds),
        compress_seconds=sum(t["compress_seconds"] for t in told) / len(told) / case.rounds,
        wire_bytes=sum(t["wire_bytes"] for t in told) / case.rounds,
        counted_bytes=None if loopback else sum(t["counted_bytes"] for t in told) / case.rounds,
    )
