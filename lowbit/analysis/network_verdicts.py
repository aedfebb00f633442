"""Verdicts of the network study: is what is computed of exchanges what the kernel counts, and what the clock shows?

An error is that of a prediction, in percent of what was measured, without its sign; its mean over measurements is held
to a bound as in `outcomes.held_to`. Only what was held out from the fit counts for times.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lowbit.analysis.claim import Bound
from lowbit.analysis.networks import STUDY
from lowbit.analysis.outcomes import NOT_MEASURED, held_to
from lowbit.analysis.statistics import paired
from lowbit.analysis.verdicts import Verdict


@dataclass(frozen=True, kw_only=True)
class NetworkClaim:
    """One claim.

    Args:
        key: last part of the verdict's id.
        task: what it is about.
        text: the claim.
        measure: what was measured.
        kind: exchange, training, or empty for both.
        error: column of the measurements.
        bound: on the error, in percent.
    """

    key: str
    task: str
    text: str
    measure: str
    kind: str
    error: str
    bound: Bound


CLAIMS = (
    NetworkClaim(
        key="framed_bytes",
        task="bytes on the wire",
        text="Computed bytes of exchanges, framing included, are in the mean at most 5 % off those counted",
        measure="error of the payload of exchanges with headers and acknowledgements, against the kernel's counters",
        kind="exchange",
        error="framed_error_percent",
        bound=Bound(high=5),
    ),
    NetworkClaim(
        key="framed_step_bytes",
        task="bytes of a training step",
        text="Computed bytes of training steps, framing included, are in the mean at most 5 % off those counted",
        measure="error of the payload of training with headers and acknowledgements, against the kernel's counters",
        kind="training",
        error="framed_error_percent",
        bound=Bound(high=5),
    ),
    NetworkClaim(
        key="exchange_seconds",
        task="time of an exchange",
        text="The cost model's times of exchanges are in the mean at most 20 % off those measured",
        measure="error of the predicted time of an exchange, links and sizes held out from the fit",
        kind="exchange",
        error="error_percent",
        bound=Bound(high=20),
    ),
    NetworkClaim(
        key="step_seconds",
        task="time of a training step",
        text="The cost model's times of training steps are in the mean at most 20 % off those measured",
        measure="error of the predicted time of a step on links other than that whose steps the model is given",
        kind="training",
        error="error_percent",
        bound=Bound(high=20),
    ),
)


def errors(runs: pd.DataFrame) -> pd.DataFrame:
    """The measurements with their errors, without sign."""
    framed = 100 * (runs["framed_bytes"] / runs["counted_bytes"].astype(float) - 1).abs()
    return runs.assign(
        error_percent=runs["apart_percent"].abs(), framed_error_percent=framed.where(runs["payload_bytes"] > 0)
    )


def judge(runs: pd.DataFrame, why_loopback: str) -> list[Verdict]:
    """A verdict on every claim.

    Args:
        runs: the measurements, `lowbit.analysis.networks.measurements_table`.
        why_loopback: why no links were made; empty where there were some.
    """
    return [_judged(claim, errors(runs), why_loopback) for claim in CLAIMS]


def _judged(claim: NetworkClaim, runs: pd.DataFrame, why_loopback: str) -> Verdict:
    rows = runs[runs["kind"] == claim.kind]
    if claim.error == "error_percent":
        rows = rows[rows["held_out"].astype(bool)]
    values = rows[claim.error].dropna().to_numpy(dtype=float)
    verdict = Verdict(
        id=f"{STUDY}/{claim.task}/{claim.key}", study=STUDY, task=claim.task, claim=claim.text,
        source="this package's cost model", measure=claim.measure, unit="%", threshold=claim.bound.threshold,
        bound=claim.bound.words("%"), device=" and ".join(sorted(runs["hardware"].unique())),
        verdict=NOT_MEASURED, figure=f"figures/{STUDY}/predicted_and_measured.png",
        note=f"loopback only, nothing to hold the model to: {why_loopback}" if why_loopback else "nothing was held out",
    )  # fmt: skip
    if not len(values) or why_loopback:
        return verdict
    result = paired(values)
    worst = rows.loc[rows[claim.error].idxmax()]
    at = "" if claim.kind == "training" else f", {int(worst['entries']):,} entries"
    note = (
        f"{np.count_nonzero(values <= claim.bound.high)} of {len(values)} within {claim.bound.high:g} %; the worst "
        f"{values.max():.0f} %: {worst['arm']} on {worst['task']}{at}"
    )
    known = math.isfinite(result.high_95)
    outcome, level = held_to(claim.bound, result)
    return replace(
        verdict, verdict=outcome, estimate=result.mean, n=result.n, note=note,
        interval=(max(0.0, result.low_95), result.high_95) if known else None, level=level if known else None,
    )  # fmt: skip
