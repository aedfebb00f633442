"""What determines the run of the network study: links, sizes of gradients, and which of them a cost model may see."""

import json
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lowbit import catalog
from lowbit.catalog import Settings
from lowbit.spec import NAME_PATTERN
from lowbit.variant import Count

UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
"""Bits a second."""


def bits_of(rate: str) -> float:
    """Bits a second of a text such as 100mbit.

    Raises:
        ValueError: for another text.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(kbit|mbit|gbit)", rate)
    if not match or float(match[1]) == 0:
        raise ValueError(f"{rate!r}: must be a number with kbit, mbit or gbit")
    return float(match[1]) * UNITS[match[2]]


def _checked(rate: str) -> str:
    bits_of(rate)
    return rate


Rate = Annotated[str, AfterValidator(_checked)]


class Links(Settings):
    """Rates of virtual links, such as 100mbit or 1gbit."""

    fitted: Annotated[tuple[Rate, ...], Field(min_length=1)] = Field(
        ("100mbit", "10gbit"), description="Links on which the cost model is fitted."
    )
    held_out: tuple[Rate, ...] = Field(("1gbit",), description="Links that it is held to.")


class Sizes(Settings):
    """Entries of a gradient."""

    fitted: Annotated[tuple[Count, ...], Field(min_length=2)] = Field(
        (100_000, 1_000_000), description="Sizes at which the cost model is fitted."
    )
    held_out: tuple[Count, ...] = Field((300_000,), description="Sizes that it is held to.")


class Measurement(Settings):
    """Exchanges and training between processes on this machine, over links of a known rate."""

    links: Links = Field(Links(), description="Links; where there is no right to make any, loopback alone is measured.")
    sizes: Sizes = Field(Sizes(), description="Sizes of gradients.")
    ranks: Annotated[int, Field(ge=2)] = Field(2, description="Processes.")
    density: Annotated[float, Field(gt=0, le=1)] = Field(0.01, description="Fraction of entries that is sent.")
    rounds: Count = Field(5, description="Exchanges of each kind.")
    train_steps: Count = Field(10, description="Steps of the dense training run; others have more.")


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
        compressors = (f"compressors/{name}.py" for name in ("hggtopk", "none", "randomk", "topk"))
        schemes = (f"schemes/{name}.py" for name in ("allgather", "dense", "gtopk", "oktopk", "shared"))
        return catalog.digest("distributed/links.py", "distributed/link_rank.py", *compressors, *schemes)
