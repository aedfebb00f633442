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
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

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


@dataclass(frozen=True)
class Training:
    """A training run to measure: digits, a perceptron with two hidden layers, the same data and start for all hooks.

    Args:
        hook: name of a compressor, or of one of PyTorch's hooks.
        density: fraction of entries sent, for a compressor.
        steps: of SGD with momentum.
        width: of the hidden layers; 1024 for 1.1 million parameters.
        every: steps between two looks at the validation loss, which do not count as time.
    """

    hook: str
    density: float
    steps: int
    width: int = 1024
    every: int = 10


@dataclass(frozen=True)
class Trained:
    """What a training run has given.

    Args:
        training: that was measured.
        step_seconds: median over steps of the slowest rank's.
        wire_bytes: payload of a step, sum over ranks.
        counted_bytes: what the interfaces have sent in a step, sum over ranks; None on loopback.
        curve: seconds of training so far and validation loss, at every look.
    """

    training: Training
    step_seconds: float
    wire_bytes: float
    counted_bytes: float | None
    curve: list[tuple[float, float]]

    def seconds_to(self, loss: float) -> float | None:
        """When the validation loss was first no greater; None for never."""
        return next((seconds for seconds, reached in self.curve if reached <= loss), None)


def measure(cases: list[Case], ranks: int, rate_bits: float | None, *, loopback: bool) -> Iterator[Measured]:
    """Measure exchanges one after the other, in one group of processes.

    Args:
        cases: what to measure.
        ranks: number of processes.
        rate_bits: of every link; None for no limit.
        loopback: whether to do without namespaces: no limit, and no counting.

    Raises:
        UserError: when a rank fails; all are killed then.
    """
    for case, told in _answers(cases, ranks, rate_bits, loopback):
        yield Measured(
            case,
            seconds=_slowest(told),
            compress_seconds=sum(t["compress_seconds"] for t in told) / ranks / case.rounds,
            wire_bytes=sum(t["wire_bytes"] for t in told) / case.rounds,
            counted_bytes=None if loopback else sum(t["counted_bytes"] for t in told) / case.rounds,
        )


def train(runs: list[Training], ranks: int, rate_bits: float | None, *, loopback: bool) -> Iterator[Trained]:
    """Measure training runs one after the other; arguments and errors as of `measure`."""
    for training, told in _answers(runs, ranks, rate_bits, loopback):
        yield Trained(
            training,
            step_seconds=_slowest(told),
            wire_bytes=sum(t["wire_bytes"] for t in told) / training.steps,
            counted_bytes=None if loopback else sum(t["counted_bytes"] for t in told) / training.steps,
            curve=[tuple(point) for point in told[0]["curve"]],
        )


def _answers(
    jobs: list[Any], ranks: int, rate_bits: float | None, loopback: bool
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
