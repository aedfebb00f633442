"""Arms of the estimator study against the baseline: held-out decrease of the loss, paired by seed.

The unit of repetition is the seed: an initialisation with its own batches, whose mean is one number. Every variant of
an arm has a row; the `chosen` one is that with the largest held-out decrease, and serves figures. Verdicts take
`cross_fitted` values: each batch is measured with the variant that does best on the other batches, so that trying many
settings neither buys nor costs anything.
"""

from collections.abc import Sequence

import pandas as pd

from lowbit.analysis.design import Design
from lowbit.analysis.statistics import Paired, differences, paired

MEASURES = {"percent_held_out": "percent of the loss", "cosine": "cosine"}
_PLACE = ["task", "point"]


def seed_means(estimates: pd.DataFrame, keys: Sequence[str] = (*_PLACE, "arm", "variant", "seed")) -> pd.DataFrame:
    """Means over batches: one row per task, point, arm, variant and seed."""
    keys = list(keys)
    values = [*MEASURES, "percent_decrease", "percent_control", "forward_evaluations", "seconds", "zeros"]
    means = estimates.groupby(keys, sort=False)[values].mean().reset_index()
    ends = estimates.assign(
        low_end=estimates["at_grid_end"] == "low",
        high_end=estimates["at_grid_end"] == "high",
        descends=estimates["decrease_held_out"] > 0,
        control_descends=estimates["percent_control"] > 0,
    )
    by_seed = ends.groupby(keys, sort=False)
    shares = by_seed[["low_end", "high_end", "descends", "control_descends"]].mean().reset_index()
    return means.merge(shares, on=keys).merge(by_seed.size().rename("batches").reset_index(), on=keys)


def chosen_variants(means: pd.DataFrame, measure: str = "percent_held_out") -> pd.DataFrame:
    """The variant of each arm with the largest mean of a measure: task, point, arm, variant."""
    totals = means.groupby([*_PLACE, "arm", "variant"], sort=False)[measure].mean().reset_index()
    best = totals.groupby([*_PLACE, "arm"], sort=False)[measure].idxmax()
    return totals.loc[best.dropna(), [*_PLACE, "arm", "variant"]]


def cross_fitted(estimates: pd.DataFrame, measure: str = "percent_held_out") -> pd.DataFrame:
    """Means over batches, each batch with the variant that is best on the others: task, point, arm, seed.

    With a single batch the variant is chosen on that batch itself.
    """
    batches = estimates["batch"].unique()
    parts = []
    for batch in batches:
        others = estimates[estimates["batch"] != batch] if len(batches) > 1 else estimates
        chosen = chosen_variants(others, measure)
        parts.append(estimates[estimates["batch"] == batch].merge(chosen, on=[*_PLACE, "arm", "variant"]))
    return seed_means(pd.concat(parts, ignore_index=True), [*_PLACE, "arm", "seed"])


def comparisons_table(estimates: pd.DataFrame, design: Design) -> pd.DataFrame:
    """One row per task, point, arm, variant and measure: mean with interval, and the difference to the baseline."""
    means = seed_means(estimates)
    chosen = {tuple(row) for row in chosen_variants(means).itertuples(index=False)}
    rows = []
    for (task, point), of_point in means.groupby(_PLACE, sort=False):
        reference = values(of_point, design.baseline, _variant(chosen, task, point, design.baseline))
        for (arm, variant), group in of_point.groupby(["arm", "variant"], sort=False):
            shared = {"task": task, "point": point, "arm": arm, "variant": variant, "baseline": design.baseline}
            shared["chosen"] = int((task, point, arm, variant) in chosen)
            for name in ("forward_evaluations", "seconds", "zeros", "low_end", "high_end", "descends"):
                shared[name] = group[name].mean()
            for measure, unit in MEASURES.items():
                own = paired(group[measure].to_numpy())
                against = difference(group, reference, measure)
                rows.append(
                    shared | {"measure": measure, "unit": unit} | _columns("", own) | _columns("minus_", against)
                )
    return pd.DataFrame(rows)


def values(means: pd.DataFrame, arm: str, variant: str | None) -> pd.DataFrame:
    """Rows of one variant of an arm."""
    return means[(means["arm"] == arm) & (means["variant"] == variant)]


def difference(treated: pd.DataFrame, reference: pd.DataFrame, measure: str) -> Paired:
    """Paired difference over the seeds that both have."""
    both = treated.set_index("seed")[[measure]].join(reference.set_index("seed")[measure], rsuffix="_reference")
    return paired(differences(both[measure].to_numpy(), both[f"{measure}_reference"].to_numpy()))


def _variant(chosen: set[tuple], task: str, point: str, arm: str) -> str | None:
    return next((v for t, p, a, v in chosen if (t, p, a) == (task, point, arm)), None)


def _columns(prefix: str, result: Paired) -> dict[str, float]:
    names: Sequence[str] = ("n", "mean", "low_90", "high_90", "low_95", "high_95", "p")
    return {f"{prefix}{name}": getattr(result, name) for name in names}
