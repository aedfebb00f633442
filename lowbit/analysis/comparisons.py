"""Every arm against the baseline, and the arms that claims name against each other, by measure, paired by seed."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lowbit.analysis import exchanges
from lowbit.analysis.claims import CLAIMS
from lowbit.analysis.design import Design
from lowbit.analysis.statistics import differences, equivalence, holm, paired


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A column of the runs table, and how two arms are compared by it.

    Args:
        unit: unit of a difference; "log ratio" takes logarithms first.
        margins: practical equality, widest first: half-widths in the unit of the difference; for a log ratio,
            fractions r that mean a ratio between 1 - r and 1 + r.
        tested: False for a measure that is shown but settles nothing.
        reached: whether it says when a run reached a reference, which it may not have done.
    """

    unit: str
    margins: tuple[float, ...] = ()
    tested: bool = True
    reached: bool = False

    @property
    def logarithmic(self) -> bool:
        """Whether arms are compared by ratio."""
        return self.unit == "log ratio"

    def bounds(self, margin: float) -> tuple[float, float]:
        """Limits of practical equality on the scale of the differences."""
        return (math.log1p(-margin), math.log1p(margin)) if self.logarithmic else (-margin, margin)


MEASURES: dict[str, Measure] = {
    "test_accuracy_percent": Measure(unit="points", margins=(1.0, 0.5)),
    "test_accuracy_percent_last": Measure(unit="points", margins=(1.0, 0.5)),
    "test_loss": Measure(unit="nats"),
    "test_perplexity": Measure(unit="log ratio", margins=(0.01,)),
    "gradient_dispersion": Measure(unit="log ratio", margins=(0.10,)),
    "gradient_cv": Measure(unit="log ratio", margins=(0.10,)),
    "gradient_spike_percent": Measure(unit="points"),
    "gradient_variance": Measure(unit="log ratio", tested=False),
    "steps_to_reference": Measure(unit="log ratio", margins=(0.05,), reached=True),
    "zero_fraction": Measure(unit="fraction"),
    "flip_rate": Measure(unit="log ratio"),
    "step_seconds": Measure(unit="log ratio"),
    "wire_percent": Measure(unit="% of dense", tested=False),
    "overhead_percent": Measure(unit="% of a step", tested=False),
    "kept_percent": Measure(unit="% of dense", tested=False),
    "pipeline_saves_percent": Measure(unit="%", tested=False),
    **{name: Measure(unit="log ratio", reached=True) for name in exchanges.SECONDS_TO_REFERENCE},
}
"""Those that the runs of a study have are compared.

The raw variance of gradient norms is not tested: a factor on the loss alone changes it by the factor's square."""

COLUMNS = (
    *("task", "arm", "baseline", "measure", "unit", "n", "mean", "sd", "low_90", "high_90", "low_95", "high_95"),
    *("p", "p_holm", "margin", "tost_p", "tost_p_holm", "strict_margin", "strict_tost_p", "strict_tost_p_holm"),
    *("tested", "censored"),
)


def percent(log_ratio: float) -> float:
    """A log ratio as a change in percent.

    Example:
        >>> percent(math.log(0.5))
        -50.0
    """
    return 100 * math.expm1(log_ratio)


def comparisons_table(runs: pd.DataFrame, design: Design) -> pd.DataFrame:
    """One row per task, pair of arms, and measure: every arm with the baseline, then the other pairs of claims.

    Holm's correction is over the tasks of one pair and measure: each pair asks its question once per task.
    """
    asked = [(arm, design.baseline) for arm in design.arms]
    asked += [claim.arms(design) for claim in CLAIMS.get(design.study, ())]
    rows = []
    for task, arms in design.runs.items():
        for arm, baseline in dict.fromkeys(asked):
            if arm != baseline and arm in arms and baseline in arms:
                compared = pairs(runs, task, arm, baseline)
                labels = {"task": task, "arm": arm, "baseline": baseline}
                rows += [labels | _row(*compared, name) for name in MEASURES if name in runs]
    table = pd.DataFrame(rows, columns=COLUMNS)
    for column in ("p", "tost_p", "strict_tost_p"):
        family = table.groupby(["arm", "baseline", "measure"], sort=False)[column]
        table[f"{column}_holm"] = family.transform(lambda p: holm(p.to_numpy()))
    return table


def _row(treated: pd.DataFrame, reference: pd.DataFrame, name: str) -> dict[str, Any]:
    measure = MEASURES[name]
    d = differences(treated[name].to_numpy(), reference[name].to_numpy(), logarithmic=measure.logarithmic)
    result = paired(d)
    row = {"measure": name, "unit": measure.unit, **vars(result)}
    if not measure.tested:
        row["p"] = math.nan
    for prefix, margin in zip(("", "strict_"), measure.margins, strict=False):
        row |= {f"{prefix}margin": margin, f"{prefix}tost_p": equivalence(d, *measure.bounds(margin))}
    censored = treated["censored"].ne("no").to_numpy() | reference["censored"].ne("no").to_numpy()
    return row | {"tested": int(measure.tested), "censored": int(censored.sum()) if measure.reached else 0}


def pairs(runs: pd.DataFrame, task: str, arm: str, baseline: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of two arms of a task, for the seeds that both have, in the same order."""
    of_task = runs[runs["task"] == task]
    treated, reference = (of_task[of_task["arm"] == name].set_index("seed") for name in (arm, baseline))
    seeds = treated.index.intersection(reference.index).sort_values()
    return treated.loc[seeds], reference.loc[seeds]
