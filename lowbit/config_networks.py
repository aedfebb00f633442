"""The network study in the configuration: links of a known rate, and what is assumed of other machines."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from lowbit.catalog import Settings
from lowbit.cost_assumptions import Assumptions
from lowbit.network_spec import Links, Measurement, NetworkSpec
from lowbit.variant import Count

Several = Field(min_length=1)


class Extrapolation(Settings):
    """Machines on paper."""

    gradients: Annotated[dict[str, Count], Several] = Field(
        {"GPT-2 medium": 355_000_000, "7 billion": 7_000_000_000}, description="Name -> entries."
    )
    workers: Annotated[tuple[Count, ...], Several] = Field(
        (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096), description="Numbers of workers."
    )
    gbit_per_second: Annotated[tuple[float, ...], Several] = Field(
        (1, 2.5, 5, 10, 25, 50, 100, 200, 400), description="Rates of the links, in Gb/s."
    )
    densities: Annotated[tuple[float, ...], Several] = Field((0.01, 0.001), description="Fractions sent.")
    assumptions: Assumptions = Field(Assumptions(), description="Of workers and network.")
    benchmark: Annotated[str, Several] | None = Field(
        None, description="CSV of your own `benchmark compressors`, for the time of compression; null to assume it."
    )
    compressor: str = Field("hggtopk", description="Whose time is taken from the benchmark.")


class NetworkStudy(Measurement):
    """The network study: exchanges and training over links, and what that would cost elsewhere."""

    links: Links = Field(description="Links; where there is no right to make any, loopback alone is measured.")
    extrapolation: Extrapolation = Field(Extrapolation(), description="What is computed for other machines.")


def runs_of(name: str, study: NetworkStudy) -> tuple[NetworkSpec, ...]:
    """The run of a network study."""
    return (NetworkSpec(study=name, **{key: getattr(study, key) for key in Measurement.model_fields}),)


def faults(name: str, study: NetworkStudy) -> Iterator[str]:
    """What is wrong with a network study, as `place: why`."""
    place = f"studies.{name}"
    if name != "network":
        yield f"{place}: a study with links must be called network, the name that the pipeline has rules for"
