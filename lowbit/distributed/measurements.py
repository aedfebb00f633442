"""What `netbench` measures between processes, and what it has found: exchanges of gradients, and training runs."""

from dataclasses import dataclass
from typing import Any

from lowbit import cost

PHASES = ("forward", "backward", "compress", "send", "decompress", "update")

_PYTORCH = ("noop", "allreduce", "bf16", "powersgd")


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
        ranks_per_node: ranks that average densely before the first of them exchanges.
    """

    compressor: str
    scheme: str
    density: float
    numel: int
    dense_dtype: str = "float32"
    rounds: int = 5
    ranks_per_node: int = 1

    @property
    def name(self) -> str:
        """For tables."""
        if self.compressor == "none":
            return f"dense {self.dense_dtype}"
        return f"{self.compressor} {self.density:g} {self.scheme}"

    @property
    def title(self) -> str:
        """For messages."""
        return f"exchange {self.name} of {self.numel} entries"

    @property
    def bytes_at_most(self) -> float:
        """Of a message, with any scheme and density."""
        return 8.0 * self.numel


@dataclass(frozen=True)
class Traffic:
    """What all ranks have put on the network, together.

    Args:
        wire_bytes: payload, as computed.
        messages: that carried it, as computed.
        messages_in_row: that had to wait for one another, of the rank with most of them.
        counted_bytes: what the interfaces have sent; None where they were not asked.
        payload_of_packet: bytes of payload in a full packet.
    """

    wire_bytes: float
    messages: float
    messages_in_row: float
    counted_bytes: float | None
    payload_of_packet: int

    @property
    def framed_bytes(self) -> float:
        """What the interfaces should count, as computed."""
        return cost.framed_bytes(self.wire_bytes, self.messages, self.payload_of_packet)

    @property
    def columns(self) -> str:
        """For tables: payload, with framing, counted, and how far they are apart."""
        if self.counted_bytes is None or self.wire_bytes == 0:
            return f"{self.wire_bytes:12.0f}"
        apart = self.framed_bytes / self.counted_bytes - 1
        return f"{self.wire_bytes:12.0f} {self.framed_bytes:12.0f} {self.counted_bytes:12.0f} {apart:+7.1%}"


COLUMNS = f"{'payload':>12} {'framed':>12} {'counted':>12} {'apart':>7}"
"""Heads of `Traffic.columns`."""


@dataclass(frozen=True)
class Measured:
    """What a case has cost.

    Args:
        case: that was measured.
        seconds: of an exchange, median over rounds of the slowest rank's.
        compress_seconds: of it on compression, median over rounds and ranks.
        decompress_seconds: of it on sums and copies of what has arrived, the same.
        traffic: of an exchange.
    """

    case: Case
    seconds: float
    compress_seconds: float
    decompress_seconds: float
    traffic: Traffic


@dataclass(frozen=True)
class Training:
    """A training run to measure: digits, a perceptron with two hidden layers, the same data and start for all hooks.

    Args:
        hook: name of a compressor, or of one of PyTorch's hooks.
        density: fraction of entries sent, for a compressor.
        steps: of SGD with momentum.
        width: of the hidden layers; 1024 for 1.1 million parameters.
        every: steps between two looks at the validation loss, which do not count as time.
        pipeline: for a compressor, whether backward goes on while a bucket is exchanged.
        seed: of the start and of the batches.
        trace: file for a trace of three more steps on rank 0; none if empty.
    """

    hook: str
    density: float
    steps: int
    width: int = 1024
    every: int = 10
    pipeline: bool = True
    seed: int = 0
    trace: str = ""

    @property
    def name(self) -> str:
        """For tables."""
        if self.hook in _PYTORCH:
            return self.hook
        return f"{self.hook} {self.density:g}{'' if self.pipeline else ' waits'}"

    @property
    def title(self) -> str:
        """For messages."""
        return f"training {self.name}"

    @property
    def bytes_at_most(self) -> float:
        """Of all messages of one rank to another in a step, with any hook."""
        return 8.0 * (64 + self.width + 10 + 2) * self.width


@dataclass(frozen=True)
class Trained:
    """What a training run has given.

    Args:
        training: that was measured.
        step_seconds: median over steps of the slowest rank's.
        phases: seconds of `PHASES`, medians over steps on rank 0; those of an exchange are 0 for PyTorch's hooks, and
            inside backward where there is no pipeline.
        traffic: of a step.
        curve: seconds of training so far and validation loss, at every look.
    """

    training: Training
    step_seconds: float
    phases: dict[str, float]
    traffic: Traffic
    curve: list[tuple[float, float]]

    def seconds_to(self, loss: float) -> float | None:
        """When the validation loss was first no greater; None for never."""
        return next((seconds for seconds, reached in self.curve if reached <= loss), None)


def traffic_of(told: list[dict[str, Any]], rounds: int, counted: bool, payload_of_packet: int) -> Traffic:
    """The traffic of one round, of what every rank tells of all.

    Args:
        told: `wire_bytes`, `messages`, `messages_in_row` and `counted_bytes` of every rank.
        rounds: that these were sent in.
        counted: whether the counters belong to the ranks alone.
        payload_of_packet: bytes of payload in a full packet.
    """
    sums = {key: sum(t[key] for t in told) / rounds for key in ("wire_bytes", "messages", "counted_bytes")}
    in_row = max(t["messages_in_row"] for t in told) / rounds
    counters = sums["counted_bytes"] if counted else None
    return Traffic(sums["wire_bytes"], sums["messages"], in_row, counters, payload_of_packet)


def cases(numel: int, density: float, rounds: int, ranks_per_node: int = 1) -> list[Case]:
    """An exchange of every scheme, dense ones in float32 and bfloat16."""
    common = {"numel": numel, "rounds": rounds, "ranks_per_node": ranks_per_node}
    dense = [Case("none", "dense", 1.0, dense_dtype=dtype, **common) for dtype in ("float32", "bfloat16")]
    sparse = [Case("hggtopk", way, density, **common) for way in ("allgather", "gtopk", "oktopk")]
    return [*dense, *sparse, Case("randomkec", "shared", density, **common)]


def trainings(steps: int, density: float, seed: int = 0, trace: str = "") -> list[Training]:
    """A training run with every hook, without an exchange first; to see when they reach what the dense one does.

    Args:
        steps: of the dense run; twice as many in bfloat16, five times where few bytes or none are sent.
        density: of the compressors.
        seed: of start and batches.
        trace: how the names of the files of traces begin; empty for none.
    """
    asked = [(name, True) for name in (*_PYTORCH, "topk", "hggtopk")] + [("hggtopk", False)]
    return [
        Training(
            name,
            density,
            steps * {"allreduce": 1, "bf16": 2}.get(name, 5),
            pipeline=pipeline,
            seed=seed,
            trace=trace and f"{trace}{name}{'' if pipeline else '_waits'}.json",
        )
        for name, pipeline in asked
    ]
