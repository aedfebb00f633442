"""What the cost of an exchange on other machines is computed from: assumptions, each to be replaced by a measurement.

seconds of a step = forward + backward + compress + sum + what of the network is longer than backward
"""

import csv
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lowbit import cost
from lowbit.catalog import Settings
from lowbit.errors import UserError

Positive = Annotated[float, Field(gt=0)]
_CASE = re.compile(r"(?P<name>\S+) n=(?P<n>\d+) density=(?P<density>\S+) input=normal(?P<device> device=cuda)?$")


class Assumptions(Settings):
    """Workers with a GPU each, and the network between them. Defaults stand for an H100; none of them is measured."""

    tokens: Positive = Field(8192, description="Tokens that a worker computes in a step.")
    flops_per_second: Positive = Field(4e14, description="That a worker computes: 40 % of an H100's in bfloat16.")
    forward_flops: Positive = Field(2, description="Of a parameter and token in the forward pass.")
    backward_flops: Positive = Field(4, description="Of a parameter and token in the backward pass.")
    memory_bytes_per_second: Positive = Field(2e12, description="That kernels reach: 60 % of an H100's.")
    compress_bytes: Positive = Field(16, description="Of memory that a compressor moves for an entry of the gradient.")
    compress_seconds_per_entry: float = Field(
        0, ge=0, description="Measured, instead of the two above; 0 where it is not."
    )
    sum_bytes: Positive = Field(72, description="Of memory that an entry that has arrived moves to be added.")
    latency_seconds: Positive = Field(15e-6, description="Of a message between workers.")
    dense_bytes: Positive = Field(2, description="Of a value of the dense exchange that all is compared with.")
    value_bytes: Positive = Field(4, description="Of a value of a sparse exchange, beside 4 of its index.")
    overlap: float = Field(1.0, ge=0, le=1, description="Part of backward that the network may hide behind.")

    def backward_seconds(self, entries: float) -> float:
        """Of a step of a model with so many parameters."""
        return self.backward_flops * entries * self.tokens / self.flops_per_second

    def compute_seconds(self, entries: float) -> float:
        """Of forward and backward."""
        return (self.forward_flops + self.backward_flops) * entries * self.tokens / self.flops_per_second

    def compress_seconds(self, scheme: str, ranks: int, entries: float, density: float) -> float:
        """Of compressing and of adding up what arrives: P k entries by allgather, k for every merge of a tree."""
        if scheme == "dense":
            return 0.0
        arrived = {"allgather": ranks, "shared": 1, "oktopk": 2, "gtopk": 2 * (ranks - 1).bit_length()}[scheme]
        each = self.compress_seconds_per_entry or self.compress_bytes / self.memory_bytes_per_second
        return entries * (each + arrived * density * self.sum_bytes / self.memory_bytes_per_second)

    def link(self, rate_bits: float) -> cost.Link:
        """Of a rate, in bits a second."""
        return cost.Link(rate_bits, self.latency_seconds)

    def step_seconds(self, scheme: str, ranks: int, entries: float, density: float, rate_bits: float) -> float:
        """Of a training step; `dense` has values of `dense_bytes`."""
        width = self.dense_bytes if scheme == "dense" else self.value_bytes
        sent = cost.volume(scheme, ranks, entries, density, width, trees=True)
        wire = cost.exchange_seconds(sent, self.link(rate_bits))
        return cost.step_seconds(
            self.compute_seconds(entries),
            wire,
            self.overlap * self.backward_seconds(entries),
            self.compress_seconds(scheme, ranks, entries, density),
        )

    def crossover(self, scheme: str, ranks: int, entries: float, rate_bits: float) -> float:
        """Density below which a step is faster than with the dense exchange; 0 for never, 1 for always.

        Found by halving: time grows with the density.
        """
        dense = self.step_seconds("dense", ranks, entries, 1.0, rate_bits)
        low, high = 0.0, 1.0
        if self.step_seconds(scheme, ranks, entries, high, rate_bits) < dense:
            return high
        for _ in range(50):
            middle = (low + high) / 2
            faster = self.step_seconds(scheme, ranks, entries, middle, rate_bits) < dense
            low, high = (middle, high) if faster else (low, middle)
        return low if low > 1e-12 else 0.0

    def measured_by(self, benchmark: Path, compressor: str, density: float) -> "Assumptions":
        """The same with the compressor's time from `python -m lowbit benchmark compressors --csv`, at its largest size.

        A GPU's rows go before a processor's, and the density nearest to the one asked for.

        Raises:
            UserError: when the file has no time of that compressor.
        """
        try:
            rows = list(csv.DictReader(benchmark.read_text(encoding="utf-8").splitlines()))
            found = [(m, float(row["value"])) for row in rows if row["metric"] == "milliseconds"
                     and (m := _CASE.match(row["case"])) and m["name"] == compressor]  # fmt: skip
        except (OSError, KeyError, ValueError) as error:
            raise UserError(f"{benchmark}: not a CSV of `python -m lowbit benchmark compressors` ({error})") from None
        if not found:
            raise UserError(
                f"{benchmark}: no milliseconds of {compressor}; make it: python -m lowbit benchmark compressors "
                f"--names {compressor} --device cuda --csv {benchmark}"
            )
        best, milliseconds = max(
            found, key=lambda f: (bool(f[0]["device"]), -abs(float(f[0]["density"]) - density), int(f[0]["n"]))
        )
        return self.model_copy(update={"compress_seconds_per_entry": milliseconds / 1e3 / int(best["n"])})
