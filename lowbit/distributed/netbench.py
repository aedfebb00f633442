"""Exchanges of gradients, and training, between processes on this machine, over links of a known rate.

Every rank is a process of its own (`link_rank.py`), in a network namespace of its own where that is possible. Measured
are seconds on the slowest rank, the payload that an exchange says it sends, and the bytes that the interfaces of all
ranks sent in that time, framing and acknowledgements included.

A rank that has ended or does not answer ends the measurement: the others give up waiting for it, say where they were,
and the error names the rank.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from statistics import median
from typing import Any

from lowbit.distributed import namespaces
from lowbit.distributed.measurements import PHASES, Case, Measured, Trained, Training, traffic_of
from lowbit.errors import LostRankError, RankError

PATIENCE_SECONDS = 30.0
"""That ranks wait for one another, beside what the slowest exchange needs on a link."""
START_SECONDS = 20.0
"""For each rank, that they wait for one another at the start, when all import PyTorch."""
GRACE_SECONDS = 10.0
"""Left to the other ranks once one has failed; a roll call among them takes seven."""
_START_BYTES = 20_000
_MESSAGES = 100
"""More than any exchange has in a row."""


class Group:
    """Processes that do exchanges and training runs, one after the other; started when the first is asked for.

    Args:
        stack: ends them when it is closed.
        ranks: number of processes.
        loopback: whether to do without namespaces: no limit, and no counting.
        latency_seconds: of a packet from rank to rank, set on the links.
        patience_seconds: that a rank waits for others, beside what the slowest exchange needs on a link.
    """

    def __init__(
        self,
        stack: ExitStack,
        ranks: int,
        *,
        loopback: bool,
        latency_seconds: float = 0.0,
        patience_seconds: float = PATIENCE_SECONDS,
    ):
        self._stack, self._ranks, self._loopback = stack, ranks, loopback
        self._latency, self._patience = latency_seconds, patience_seconds
        self._network: namespaces.Network | None = None
        self._processes: list[subprocess.Popen] = []
        self._words: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()

    def measure(self, jobs: Sequence[Case | Training], rate_bits: float | None) -> Iterator[Measured | Trained]:
        """Do some jobs over links of a rate, None for no limit.

        Yields:
            `Measured` of an exchange, `Trained` of a training run.

        Raises:
            LostRankError: when a rank was killed or does not answer, with its number and where the others were.
            RankError: when a rank fails.
            UserError: when a tool fails that makes the links.
        """
        if not self._processes:
            self._start(rate_bits)
        if self._network is not None:
            self._network.shape(rate_bits, self._latency)
        packet = namespaces.payload_of_packet(rate_bits)
        for job in jobs:
            told = self._told(job, rate_bits)
            rounds = job.rounds if isinstance(job, Case) else job.steps
            traffic = traffic_of(told, rounds, not self._loopback, packet)
            if isinstance(job, Case):
                compress, decompress = (_typical(told, phase) for phase in ("compress", "decompress"))
                yield Measured(job, _slowest(told), compress, decompress, traffic)
            else:
                phases = {name: median(told[0][name]) for name in PHASES}
                yield Trained(job, _slowest(told), phases, traffic, curve=[tuple(point) for point in told[0]["curve"]])

    def _start(self, rate_bits: float | None) -> None:
        places: list[list[str]] = [[]] * self._ranks
        where = {"GLOO_SOCKET_IFNAME": "lo"}
        if not self._loopback:
            self._network = self._stack.enter_context(namespaces.network(self._ranks))
            places = self._network.places
            where["GLOO_SOCKET_IFNAME"] = namespaces.INTERFACE
        # A file, which does not hang with a rank: where ranks meet, and call the roll.
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="lowbit-ranks-"))
        where["LOWBIT_STORE"] = f"{folder}/store"
        where["LOWBIT_TIMEOUT"] = str(START_SECONDS * self._ranks + self._seconds(_START_BYTES, rate_bits))
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
            threading.Thread(target=_hear, args=(rank, process, self._words), daemon=True).start()

    def _seconds(self, of_rank: float, rate_bits: float | None) -> float:
        """More than every rank needs to send some bytes to each other rank."""
        return _MESSAGES * self._latency + (0.0 if rate_bits is None else 2 * 8 * of_rank * self._ranks / rate_bits)

    def _told(self, job: Case | Training, rate_bits: float | None) -> list[dict[str, Any]]:
        """What every rank tells of a job."""
        limit = self._patience + self._seconds(job.bytes_at_most, rate_bits)
        asked = {"kind": type(job).__name__, "timeout_seconds": limit, **asdict(job)}
        for process in self._processes:
            with suppress(BrokenPipeError):  # it has ended, which is found out below
                process.stdin.write(json.dumps(asked) + "\n")
                process.stdin.flush()
        told = self._heard(limit)
        if any("seconds" not in word for word in told.values()) or len(told) < self._ranks:
            raise self._failure(job, told)
        return [told[rank] for rank in range(self._ranks)]

    def _heard(self, limit: float) -> dict[int, dict[str, Any]]:
        """The word of every rank, in the order in which they came; without those that say nothing after others did."""
        told: dict[int, dict[str, Any]] = {}
        ends = None
        while len(told) < self._ranks:
            try:
                rank, word = self._words.get(timeout=None if ends is None else max(0.0, ends - time.monotonic()))
            except queue.Empty:
                break
            told.setdefault(rank, word)
            latest = time.monotonic() + GRACE_SECONDS + (limit if "seconds" in word else 0.0)
            ends = latest if ends is None else min(ends, latest)
        return told

    def _failure(self, job: Case | Training, told: dict[int, dict[str, Any]]) -> RankError:
        """The error that explains best why a job is not done: ranks that were killed, that say nothing, that failed."""
        at = next((word["at"] for word in told.values() if "at" in word), "")
        place = f"{job.title}, {at}" if at else job.title
        statuses = [process.poll() for process in self._processes]
        killed = [
            f"rank {rank} of {self._ranks} was ended by {signal.Signals(-status).name}"
            for rank, status in enumerate(statuses)
            if status is not None and status < 0
        ]
        silent = [f"rank {rank} of {self._ranks} does not answer: it is stopped, hangs, or is far too slow"
                  for rank in range(self._ranks) if rank not in told]  # fmt: skip
        if killed or silent:
            return LostRankError(f"{place}: {'; '.join(killed or silent)}")
        words = [
            f"rank {rank} of {self._ranks}: {word.get('fault', f'ended with status {statuses[rank]}')}"
            for rank, word in told.items()
            if "seconds" not in word
        ]
        traces = [word["trace"] for word in told.values() if word.get("trace")][:1]
        return RankError("\n".join([f"{place}: {words[0]}", *words[1:], *traces]))


def _hear(rank: int, process: subprocess.Popen, words: "queue.SimpleQueue[tuple[int, dict[str, Any]]]") -> None:
    """Pass on what a rank says, and nothing at its end."""
    for line in process.stdout:
        if line.endswith("\n"):  # else it was killed within
            words.put((rank, json.loads(line)))
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)  # for its status
    words.put((rank, {}))


def _slowest(told: list[dict[str, Any]]) -> float:
    """Median over rounds of the slowest rank's seconds."""
    return median(max(of_ranks) for of_ranks in zip(*(t["seconds"] for t in told), strict=True))


def _typical(told: list[dict[str, Any]], phase: str) -> float:
    """Median over rounds and ranks: a machine that takes a processor away for some ms does so to one rank at a time."""
    return median(seconds for t in told for seconds in t[phase])
