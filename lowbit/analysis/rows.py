"""Runs as rows: one tidy row per run, and its curves at a few hundred points."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lowbit.analysis import exchanges, measures, scales
from lowbit.analysis.design import Design
from lowbit.analysis.runs import Run
from lowbit.variant import LN2, number

CURVE_POINTS = 200
_CURVE_MEASURES = ("loss", "accuracy_percent", "perplexity", "gradient_norm", "zero_fraction", "flip_rate")


def runs_table(runs: Sequence[Run], design: Design) -> pd.DataFrame:
    """One row per run, in the order of the design."""
    references = reference_values(runs, design)
    baselines = {run.task: run.spec for run in reversed(runs) if run.arm == design.baseline}
    rows = []
    for run in runs:
        baseline = baselines.get(run.task)
        alone = baseline is not None and scales.scale_only(run.spec, baseline)
        rows.append(_row(run, design, references.get(run.task, math.nan)) | {"scale_only": int(alone)})
    return exchanges.with_partners(pd.DataFrame(rows), design.baseline)


def timed_by(run: Run) -> str:
    """What a run's reference is of: accuracy, but of a text that several processes train on perplexity.

    Studies of one process claim to be as fast to an accuracy, whatever the task.
    """
    return run.summary["metric"] if run.spec.get("exchange") else "accuracy"


def reference_values(runs: Sequence[Run], design: Design) -> dict[str, float]:
    """Per task, the accuracy or perplexity whose reaching is timed.

    90 % of the baseline's mean best validation accuracy, 1.1 times its best validation perplexity (geometric mean over
    seeds). It is common to all arms. A share of each arm's own best would call an arm fast for ending low.
    """
    best: dict[str, list[float]] = {}
    for run in runs:
        if run.arm == design.baseline:
            text = timed_by(run) == "perplexity"
            best.setdefault(run.task, []).append(
                math.log(run.evaluations["perplexity"].min()) if text else float(run.evaluations["accuracy"].max())
            )
    by = {run.task: timed_by(run) for run in runs}
    return {
        task: measures.REFERENCE_PERPLEXITY * math.exp(np.mean(values))
        if by[task] == "perplexity"
        else measures.REFERENCE_FRACTION * float(np.mean(values))
        for task, values in best.items()
    }


def _row(run: Run, design: Design, reference: float) -> dict[str, Any]:
    spec, summary = run.spec, run.summary
    target = design.controls.get(run.arm, "")
    trained = _training_measures(run, reference)
    return {
        "study": design.study,
        "task": run.task,
        "arm": run.arm,
        "arm_order": design.arms.index(run.arm),
        "role": design.role(run.arm),
        "target": target,
        "seed": run.seed,
        "dataset": spec["dataset"],
        "model": spec["model"]["name"],
        "device": summary["device"],
        "hardware": run.hardware,
        "softmax": spec["softmax"]["name"],
        "softmax_where": spec["softmax_where"],
        "effective_temperature": scales.effective_temperature(spec["softmax"]),
        "loss_scale": number(spec["loss"]["scale"]),
        "gradient_factor": scales.gradient_factor(spec),
        "parameters": summary["parameters"],
        "converted_layers": sum(bool(layer["converted"]) for layer in summary["layers"]),
        "steps": summary["steps"],
        "epochs": spec["train"]["epochs"],
        "epochs_before": run.epochs_before,
        "metric": summary["metric"],
        "unit": summary["unit"],
        **_test_measures(summary),
        "best_validation_loss": summary["validation"]["best_loss"],
        "best_validation_step": summary["validation"]["best_step"],
        "best_validation_accuracy_percent": 100 * float(run.evaluations["accuracy"].max()),
        **_reference(run, reference),
        **trained,
        **exchanges.columns(run, trained["steps_to_reference"]),
        "seconds": summary["seconds"],
        "throughput_per_second": _median(run.steps, f"{summary['unit']}_per_second"),
        "memory_bytes": run.steps["memory_bytes"].max() if "memory_bytes" in run.steps else math.nan,
        "weights_sha256": summary["weights_sha256"],
    }


def _reference(run: Run, value: float) -> dict[str, float]:
    if timed_by(run) == "perplexity":
        return {"reference_accuracy_percent": math.nan, "reference_perplexity": value}
    return {"reference_accuracy_percent": 100 * value}


def _test_measures(summary: dict[str, Any]) -> dict[str, float]:
    """Test results of the weights chosen on the validation split, and of the last ones under `_last`."""
    row = {}
    for weights, suffix in (("best", ""), ("last", "_last")):
        test = summary["test"][weights]
        row[f"test_accuracy_percent{suffix}"] = 100 * test["accuracy"]
        row[f"test_loss{suffix}"] = test["loss"]
        row[f"test_perplexity{suffix}"] = test.get("perplexity", math.nan)
    per_token = summary.get("bytes_per_token")
    row["test_bits_per_byte"] = row["test_loss"] / (LN2 * per_token) if per_token else math.nan
    return row


def _training_measures(run: Run, reference: float) -> dict[str, Any]:
    evaluations, steps = run.evaluations, run.steps
    gradient = measures.gradient_measures(steps["gradient_norm"].to_numpy())
    values = evaluations["accuracy"].to_numpy()
    if timed_by(run) == "perplexity":  # falls, by steps that its logarithm makes even
        reference, values = -math.log(reference), -np.log(evaluations["perplexity"].to_numpy())
    reached = measures.steps_to(reference, evaluations["step"].to_numpy(), values)
    zeros = steps["zero_fraction"].dropna() if "zero_fraction" in steps else pd.Series(dtype=float)
    return {
        "steps_to_reference": reached.steps,
        "censored": reached.censored,
        "gradient_dispersion": gradient.dispersion,
        "gradient_cv": gradient.cv,
        "gradient_spike_percent": 100 * gradient.spike_fraction,
        "gradient_variance": gradient.variance,
        "clipped_percent": 100 * float(steps["clipped"].mean()),
        "zero_fraction": float(zeros.iloc[-1]) if len(zeros) else math.nan,
        "flip_rate": _median(steps, "flip_rate"),
    }


def _median(table: pd.DataFrame, column: str) -> float:
    return float(table[column].median()) if column in table else math.nan


def curves_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Evaluations as they are, also of pretraining, and steps as medians over at most 200 bins, for every run."""
    return pd.concat([part for run in runs for part in _curves(run)], ignore_index=True)


def _curves(run: Run) -> Iterator[pd.DataFrame]:
    if run.start:
        yield _labelled(run, "pretraining", run.start.evaluations)
    yield _labelled(run, "evaluation", run.evaluations)
    yield _binned_steps(run)


def _binned_steps(run: Run) -> pd.DataFrame:
    count = len(run.steps)
    bins = np.arange(count) * min(CURVE_POINTS, count) // count
    return _labelled(run, "step", run.steps.select_dtypes("number").groupby(bins).median())


def _labelled(run: Run, kind: str, points: pd.DataFrame) -> pd.DataFrame:
    points = points.assign(accuracy_percent=100 * points["accuracy"])
    wanted = points.reindex(columns=["step", "epoch", *_CURVE_MEASURES])
    labels = {"task": run.task, "arm": run.arm, "seed": run.seed, "kind": kind}
    return pd.concat([pd.DataFrame(labels, index=wanted.index), wanted], axis=1)
