"""Arms of the estimator study against the baseline: held-out decrease of the loss, paired by seed.

The unit of repetition is the seed: an initialisation with its own batches, whose mean is one number. Every variant of
an arm has a row; the `chosen` one is that with the largest held-out decrease: where that decrease itself is told, an
arm of many variants would gain from having had more tries. Verdicts, and figures that compare what arms gain, take
`cross_fitted` values instead: each batch is measured with the variant that does best on the other batches, or each seed
with that of the other seeds where there is a single batch.
"""

from collections.abc import Sequence

import pandas as pd

from lowbit.analysis.design import Design
from lowbit.analysis.statistics import Paired, differences, paired

MEASURES = {"percent_held_out": "percent of the loss", "cosine": "cosine"}
GAINS = {"gain": ("loss", "decrease"), "gain_held_out": ("loss_held_out", "decrease_held_out")}
_PLACE = ["task", "point"]
_MEANS = ("forward_evaluations", "scan_evaluations", "seconds", "zeros", "low_end", "high_end", "descends")


def seed_means(estimates: pd.DataFrame, keys: Sequence[str] = (*_PLACE, "arm", "variant", "seed")) -> pd.DataFrame:
    """Means over batches: one row per task, point, arm, variant and seed."""
    keys = list(keys)
    values = [*MEASURES, "percent_decrease", "percent_control"]
    values += ["forward_evaluations", "scan_evaluations", "seconds", "zeros", *(g for g in GAINS if g in estimates)]
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
    return _best_variants(means, measure, [*_PLACE, "arm"])


def _best_variants(rows: pd.DataFrame, measure: str, keys: list[str]) -> pd.DataFrame:
    totals = rows.groupby([*keys, "variant"], sort=False)[measure].mean().reset_index()
    best = totals.groupby(keys, sort=False)[measure].idxmax()
    return totals.loc[best.dropna(), [*keys, "variant"]]


def cross_fitted(estimates: pd.DataFrame, measure: str = "percent_held_out") -> pd.DataFrame:
    """Means over batches of the estimates that `cross_fitted_rows` keeps: task, point, arm, seed."""
    return seed_means(cross_fitted_rows(estimates, measure), [*_PLACE, "arm", "seed"])


def cross_fitted_rows(
    estimates: pd.DataFrame, measure: str = "percent_held_out", within: Sequence[str] = ()
) -> pd.DataFrame:
    """Of the estimates on each batch those of the variant that is best on the other batches.

    Of a task with a single batch, those on each seed of the variant that is best on the other seeds. With one of both
    nothing is left to choose on but that batch itself.

    Args:
        estimates: one row per task, point, arm, variant, seed and batch.
        measure: by whose mean variants are chosen.
        within: columns, beside task, point and arm, for each of whose values a variant is chosen.
    """
    keys, parts = [*_PLACE, "arm", *within], []
    for _, rows in estimates.groupby("task", sort=False):
        left_out = "batch" if rows["batch"].nunique() > 1 else "seed"
        for fold, measured in rows.groupby(left_out, sort=False):
            others = rows[rows[left_out] != fold]
            picked = _best_variants(measured if others.empty else others, measure, keys)
            parts.append(measured.merge(picked, on=[*keys, "variant"]))
    return pd.concat(parts, ignore_index=True) if parts else estimates


def with_gains(estimates: pd.DataFrame, single: pd.DataFrame) -> pd.DataFrame:
    """Estimates with what each gains over a step of another arm from the same seed on the same batch, in percent.

        gain = 100 (L_single - L) / L_single

    of the losses after the steps, on the searched and on held-out batches.

    Args:
        estimates: rows that have a step each.
        single: one row per task, point, seed and batch. Its evaluations are kept as `evaluations_single`.
    """
    keys = [*_PLACE, "seed", "batch"]
    columns = [*(name for pair in GAINS.values() for name in pair), "forward_evaluations", "scan_evaluations"]
    both = estimates.merge(single[[*keys, *columns]], on=keys, suffixes=("", "_single"), validate="many_to_one")
    for gain, (loss, decrease) in GAINS.items():
        after = both[f"{loss}_single"] - both[f"{decrease}_single"]
        both[gain] = 100 * (after - (both[loss] - both[decrease])) / after
    both["evaluations_single"] = both["forward_evaluations_single"] + both["scan_evaluations_single"]
    return both.drop(columns=[f"{name}_single" for name in columns])


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
            for name in _MEANS:
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
    other = treated["seed"].map(reference.set_index("seed")[measure])
    return paired(differences(treated[measure].to_numpy(), other.to_numpy()))


def _variant(chosen: set[tuple], task: str, point: str, arm: str) -> str | None:
    return next((v for t, p, a, v in chosen if (t, p, a) == (task, point, arm)), None)


def _columns(prefix: str, result: Paired) -> dict[str, float]:
    names: Sequence[str] = ("n", "mean", "low_90", "high_90", "low_95", "high_95", "p")
    return {f"{prefix}{name}": getattr(result, name) for name in names}
