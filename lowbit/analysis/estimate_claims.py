"""What is claimed about gradient estimators, as data: who against whom, where, and the rule it is held to."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class EstimateClaim:
    """One claim, judged at every point of its task.

    Args:
        key: last part of the verdict's id.
        text: the claim.
        source: who claims it, and where.
        task: on which it is judged.
        where: axis -> values: the points it speaks of; all by default.
        treatment: arm whose chosen variant is measured.
        baseline: arm that it is compared with; None compares with no decrease at all.
        without: words of variants that must not be chosen.
        measure: what is compared: "percent_held_out", or "percent_decrease" of the searched batches; "gain_held_out" is
            how far the loss after the treatment's step lies below that after the baseline's, in percent of the latter.
        contrast: task whose own comparison of the two arms is subtracted, seed by seed.
        rule: "more": the loss falls further than the baseline's; "not_more": it does not.
        margin: percent of the loss that count for nothing.
        figure: the figure that shows it.
    """

    key: str
    text: str
    source: str
    task: str
    where: dict[str, tuple] = field(default_factory=dict)
    treatment: str
    baseline: str | None
    without: tuple[str, ...] = ()
    measure: Literal["percent_held_out", "percent_decrease", "gain_held_out"] = "percent_held_out"
    contrast: str = ""
    rule: Literal["more", "not_more"]
    margin: float = 1.0
    figure: str


_MAY = "research note of 2021-05-19"
_JUNE = "research note of 2021-06-16"

CLAIMS: tuple[EstimateClaim, ...] = (
    EstimateClaim(
        key="cdg_beats_nes",
        text="The coordinate discrete gradient lowers the loss further than NES",
        source=f"{_MAY}, search without pretraining",
        task="toy",
        treatment="cdg",
        baseline="nes",
        rule="more",
        figure="best_decrease",
    ),
    EstimateClaim(
        key="nes_does_not_descend_after_pretraining",
        text="After pretraining, NES does not point where the loss falls",
        source=f"{_MAY}, search after pretraining",
        task="toy",
        where={"start_from": ("pretrained",)},
        treatment="nes",
        baseline=None,
        rule="not_more",
        margin=0.1,
        figure="nes_search",
    ),
    EstimateClaim(
        key="cdg_beats_ste_in_the_first_layers",
        text="Where only the first binary layer of a pretrained network moves, the coordinate discrete gradient lowers "
        "the loss further than the straight-through gradient",
        source=f"{_MAY}, thin XNOR-ResNet-18",
        task="xnor",
        where={"layer": ("first",), "start_from": ("pretrained",)},
        treatment="cdg",
        baseline="ste",
        rule="more",
        figure="first_and_last_layers",
    ),
    EstimateClaim(
        key="cdg_loses_later",
        text="Where only a layer further back moves, it does not",
        source=f"{_MAY}, thin XNOR-ResNet-18",
        task="xnor",
        where={"layer": (8, "second_last"), "start_from": ("pretrained",)},
        treatment="cdg",
        baseline="ste",
        rule="not_more",
        figure="first_and_last_layers",
    ),
    EstimateClaim(
        key="window_does_not_help",
        text="Another window of the straight-through estimator does not help",
        source=f"{_JUNE}, variant against normal STE",
        task="toy",
        treatment="window",
        baseline="ste",
        without=("width 1",),
        rule="not_more",
        figure="bias_and_variance",
    ),
    EstimateClaim(
        key="window_does_not_help_in_a_network",
        text="Another window of the straight-through estimator does not help where single layers of a network move",
        source=f"{_JUNE}, variant against normal STE, thin XNOR-ResNet-18",
        task="xnor",
        treatment="window",
        baseline="ste",
        without=("width 1",),
        rule="not_more",
        figure="windows_by_depth",
    ),
    EstimateClaim(
        key="stochastic_rounding_helps",
        text="Averaging gradients through stochastic rounding helps",
        source=f"{_MAY}, stochastic rounding",
        task="toy",
        treatment="sr_ste",
        baseline="ste",
        rule="more",
        figure="stochastic_rounding",
    ),
    EstimateClaim(
        key="dg_is_no_upper_bound",
        text="A straight-through step beats multi-step discrete gradient in one budget",
        source=f"{_JUNE}, multi-step discrete gradient",
        task="budget",
        treatment="ste",
        baseline="multi_step_dg",
        measure="percent_decrease",
        rule="more",
        figure="budget",
    ),
    EstimateClaim(
        key="single_dg_is_no_upper_bound",
        text="A straight-through step beats one step of the discrete gradient in one budget",
        source=f"{_JUNE}, single-step discrete gradient",
        task="budget",
        treatment="ste",
        baseline="dg",
        measure="percent_decrease",
        rule="more",
        figure="budget",
    ),
    EstimateClaim(
        key="multi_step_gain_is_not_binarisation",
        text="Several straight-through steps gain no more with binarisation than without",
        source=f"{_JUNE}, single-step against multi-step STE",
        task="budget",
        treatment="multi_step_ste",
        baseline="ste",
        measure="gain_held_out",
        contrast="budget_full",
        rule="not_more",
        figure="multi_step",
    ),
)
