"""Kinds of studies in the configuration, told apart by what they have: tasks, probes or traces."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

from lowbit.catalog import Settings
from lowbit.config_compression import CompressorStudy
from lowbit.config_probes import Name, ProbeStudy, without_null
from lowbit.variant import Count


class TaskInStudy(Settings):
    """How often a study repeats a task."""

    seeds: Count = Field(3, description="Repetitions: seeds 0 to n-1.")


class Study(Settings):
    """One question about training: tasks crossed with arms and seeds."""

    tasks: Annotated[dict[Name, TaskInStudy], BeforeValidator(without_null)] = Field(
        description="Tasks and their number of seeds."
    )
    arms: Annotated[dict[Name, dict[str, Any]], BeforeValidator(without_null)] = Field(
        description="Arm name -> partial task; `tasks: [...]` in it restricts the arm to some tasks."
    )
    baseline: str = Field(description="Arm that the others are compared with.")
    treatment: str = Field(description="Arm whose claimed effect is under test.")
    controls: Annotated[dict[str, str], BeforeValidator(without_null)] = Field(
        {}, description="Arm -> arm whose runs it must reproduce bit for bit."
    )


def kind_of_study(value: Any) -> str:
    """Tag of the kind of study that a configuration entry describes."""
    if isinstance(value, dict):
        return "probe" if "probes" in value else "compression" if "traces" in value else "training"
    return {ProbeStudy: "probe", CompressorStudy: "compression"}.get(type(value), "training")


AnyStudy = Annotated[
    Annotated[Study, Tag("training")]
    | Annotated[ProbeStudy, Tag("probe")]
    | Annotated[CompressorStudy, Tag("compression")],
    Discriminator(kind_of_study),
]
