"""Kinds of studies in the configuration, told apart by what they have: tasks, probes, traces or links."""

import functools
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, TypeAdapter, ValidationError

from lowbit import config_arms
from lowbit.catalog import Settings
from lowbit.config_compression import CompressorStudy
from lowbit.config_networks import NetworkStudy
from lowbit.config_probes import Name, ProbeStudy, without_null
from lowbit.probe_spec import Axes
from lowbit.timing_spec import Timing
from lowbit.variant import Count


def _axes_of(arm: dict[str, Any]) -> dict[str, Any]:
    """An arm whose axes, if it has any, are lists of plain values."""
    try:
        return arm | {"axes": TypeAdapter(Axes).validate_python(arm["axes"])} if "axes" in arm else arm
    except ValidationError:
        raise ValueError(f"axes: must name settings, each with a list of its values, got {arm['axes']!r}") from None


class TaskInStudy(Settings):
    """How often a study repeats a task."""

    seeds: Count = Field(3, description="Repetitions: seeds 0 to n-1.")


class Study(Settings):
    """One question about training: tasks crossed with arms and seeds."""

    tasks: Annotated[dict[Name, TaskInStudy], BeforeValidator(without_null)] = Field(
        description="Tasks and their number of seeds."
    )
    arms: Annotated[dict[Name, Annotated[dict[str, Any], AfterValidator(_axes_of)]], BeforeValidator(without_null)] = (
        Field(
            description="Arm name -> partial task; `tasks: [...]` in it restricts the arm to some tasks, "
            "`axes: {exchange.density: [0.01, 0.1]}` makes an arm of each value, named arm-density0.01."
        )
    )
    baseline: str = Field(description="Arm that the others are compared with.")
    treatment: str = Field(description="Arm whose claimed effect is under test.")
    controls: Annotated[dict[str, str], BeforeValidator(without_null)] = Field(
        {}, description="Arm -> arm whose runs it must reproduce bit for bit."
    )
    timing: Timing = Field(Timing(), description="How steps of all arms are timed (exchange).")

    @functools.cached_property
    def points(self) -> dict[str, dict[str, Any]]:
        """Every arm at every point of its axes."""
        return dict(config_arms.points(self.arms))


def kind_of_study(value: Any) -> str:
    """Tag of the kind of study that a configuration entry describes."""
    if isinstance(value, dict):
        kinds = {"probes": "probe", "traces": "compression", "links": "network"}
        return next((kind for key, kind in kinds.items() if key in value), "training")
    return {ProbeStudy: "probe", CompressorStudy: "compression", NetworkStudy: "network"}.get(type(value), "training")


AnyStudy = Annotated[
    Annotated[Study, Tag("training")]
    | Annotated[ProbeStudy, Tag("probe")]
    | Annotated[CompressorStudy, Tag("compression")]
    | Annotated[NetworkStudy, Tag("network")],
    Discriminator(kind_of_study),
]
