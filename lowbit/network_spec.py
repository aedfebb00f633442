"""What determines the run of the network study: links, sizes of gradients, and which of them a cost model may see."""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from lowbit import catalog
from lowbit.catalog import Settings
from lowbit.spec import NAME_PATTERN
from lowbit.variant import Count

UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
"""Bits a second."""
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
FEWEST_RANKS, MOST_RANKS = 2, 8
"""On one machine: one alone exchanges nothing."""


def bits_of(rate: str) -> float:
    """Bits a second of a text such as 100mbit.

    Raises:
        ValueError: for another text.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(kbit|mbit|gbit)", rate)
    if not match or float(match[1]) == 0:
        raise ValueError(f"{rate!r}: must be a number with kbit, mbit or gbit")
    return float(match[1]) * UNITS[match[2]]


def seconds_of(latency: str) -> float:
    """Seconds of a text such as 1ms, or of 0.

    Raises:
        ValueError: for another text.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", latency)
    if not match and latency != "0":
        raise ValueError(f"{latency!r}: must be a number with us, ms or s, or 0")
    return float(match[1]) * _SECONDS[match[2]] if match else 0.0


def _checked(by: Callable[[str], float]) -> AfterValidator:
    def checked(text: str) -> str:
        by(text)
        return text

    return AfterValidator(checked)


Rate = Annotated[str, _checked(bits_of)]
Latency = Annotated[str, _checked(seconds_of)]


def _demand_unlike(fitted: tuple, held_out: tuple, value: Callable[[Any], float]) -> None:
    """Refuse what stands twice, however it is written: 1gbit is 1000mbit."""
    seen: dict[float, tuple[str, Any]] = {}
    for part, entry in (*(("fitted", e) for e in fitted), *(("held out", e) for e in held_out)):
        if (number := round(value(entry))) in seen:
            before, first = seen[number]
            named = f"{entry}" if entry == first else f"{entry}, which is {first},"
            raise ValueError(f"{named} is {before} and again {part}; leave it in one place")
        seen[number] = part, entry


class Links(Settings):
    """Rates of virtual links, such as 100mbit or 1gbit, and their latency."""

    fitted: Annotated[tuple[Rate, ...], Field(min_length=2)] = Field(
        ("100mbit", "10gbit"), description="Links on which the cost model is fitted."
    )
    held_out: tuple[Rate, ...] = Field(("1gbit",), description="Links that it is held to.")
    latency: Latency = Field(
        "0", description="Of a packet from rank to rank on all links, such as 1ms; needs netem in the kernel."
    )

    @model_validator(mode="after")
    def _unlike(self) -> "Links":
        _demand_unlike(self.fitted, self.held_out, bits_of)
        return self


class Sizes(Settings):
    """Entries of a gradient."""

    fitted: Annotated[tuple[Count, ...], Field(min_length=2)] = Field(
        (100_000, 1_000_000), description="Sizes at which the cost model is fitted."
    )
    held_out: tuple[Count, ...] = Field((300_000,), description="Sizes that it is held to.")

    @model_validator(mode="after")
    def _unlike(self) -> "Sizes":
        _demand_unlike(self.fitted, self.held_out, float)
        return self


_BUILT = (
    *(f"compressors/{name}.py" for name in ("hggtopk", "none", "randomk")),
    *(f"feedback/{name}.py" for name in ("none", "residual")),
    *(f"schemes/{name}.py" for name in ("allgather", "dense", "gtopk", "oktopk", "shared")),
)
"""Code of the variants that are measured; no import names them."""


class Measurement(Settings):
    """Exchanges and training between processes on this machine, over links of a known rate."""

    links: Links = Field(Links(), description="Links; where there is no right to make any, loopback alone is measured.")
    sizes: Sizes = Field(Sizes(), description="Sizes of gradients.")
    ranks: Annotated[int, Field(ge=FEWEST_RANKS, le=MOST_RANKS)] = Field(2, description="Processes.")
    density: Annotated[float, Field(gt=0, le=1)] = Field(0.01, description="Fraction of entries that is sent.")
    rounds: Count = Field(
        5, description="Exchanges of each kind, of the largest gradient on the slowest link; more of what takes less."
    )
    train_steps: Count = Field(10, description="Steps of dense training on the slowest link; more of what takes less.")


class NetworkSpec(Measurement):
    """Everything that determines the run of the network study."""

    study: str = Field("by_hand", pattern=NAME_PATTERN, description="The question this run belongs to.")

    task: Literal["links"] = "links"
    arm: Literal["all"] = "all"
    device: Literal["cpu"] = "cpu"
    gpus: Literal[0] = 0
    threads: Literal[1] = 1

    @property
    def path(self) -> str:
        """Folder of the run below the results folder."""
        return f"{self.study}/{self.task}"

    def to_json(self) -> str:
        """Canonical text: equal specs give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1) + "\n"

    @property
    def code_digest(self) -> str:
        """Fingerprint of the code this run uses; part of the run rule's params."""
        return catalog.digest("distributed/links.py", "distributed/link_rank.py", *_BUILT)
