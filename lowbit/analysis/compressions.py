"""Runs of the compressor study as tables: times case by case, what is sent step by step, costs of a call.

`arm` is the study's, or what arms are compared with: `torch_topk`, torch.topk(sorted=False) with error feedback;
`torch_topk_sorted`; `floor`, residual.add_(gradient). `variant` says in words where the axes of an arm stand.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lowbit.errors import UserError

BASELINES = ("torch_topk", "torch_topk_sorted", "floor")
PLACE = ["arm", "variant", "n", "density", "input"]
FEW = 10
"""Selections of fewer entries than this say little about a threshold: verdicts leave them out."""
_UNITS = {"milliseconds": "ms"}
_METRICS = ("ratio_to_topk", "ratio_to_floor", "milliseconds")
_QUALITY = ("nnz_over_k", "threshold_error", "energy_captured", "recall", "hit_rate")


@dataclass(frozen=True, kw_only=True)
class CompressionRun:
    """One run folder of the compressor study in memory."""

    spec: dict[str, Any]
    summary: dict[str, Any]
    lines: list[dict[str, Any]]

    @property
    def hardware(self) -> str:
        """Device, processor or GPU, and threads."""
        machine = self.summary["machine"]
        threads = machine["threads"]
        name = machine["gpu"] or machine["processor"]
        return f"{self.summary['device']}: {name}, {threads} thread{'s' if threads != 1 else ''}"

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """Records of a kind with the columns that all tables have."""
        order = {arm: i for i, arm in enumerate((*self.spec["order"], *BASELINES))}
        known = {"study": self.spec["study"], "task": self.spec["task"], "device": self.summary["device"]}
        found = ({k: v for k, v in line.items() if k != "type"} for line in self.lines if line["type"] == kind)
        return [{**known, "hardware": self.hardware, "arm_order": order[line["arm"]], **line} for line in found]


def read_study(results: Path, tasks: Sequence[str] = ("speed", "quality")) -> dict[str, CompressionRun]:
    """The runs of the study, by task: times by device, and quality.

    Raises:
        UserError: when a file is missing or damaged.
    """
    return {task: _read(results / "compressor" / task) for task in tasks}


def _read(folder: Path) -> CompressionRun:
    try:
        spec, summary = (json.loads((folder / n).read_text(encoding="utf-8")) for n in ("spec.json", "summary.json"))
        lines = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        again = f"python -m lowbit compress --spec {folder / 'spec.json'} --folder {folder}"
        raise UserError(f"{folder}: not a finished run ({error}); make it again: {again}") from None
    return CompressionRun(spec=spec, summary=summary, lines=lines)


def runs_table(speeds: Sequence[CompressionRun]) -> pd.DataFrame:
    """One row per case and contestant: medians and quartiles over rounds, and how good one selection was."""
    table = pd.DataFrame([line for speed in speeds for line in speed.of_type("timing")])
    table["seed"] = 0
    table["role"] = np.where(table["arm"] == BASELINES[0], "baseline", "arm")
    return table.sort_values(["device", *PLACE[2:], "arm_order"], kind="stable").reset_index(drop=True)


def benchmark_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows that `python -m lowbit benchmark compressors` writes: benchmark, case, metric, value, unit."""
    metrics = [f"{m}{q}" for m in _METRICS for q in ("", "_quartile_low", "_quartile_high")]
    rows = []
    for row in runs.to_dict("records"):
        name = " ".join(filter(None, (row["arm"], row["variant"])))
        case = f"{name} n={row['n']} density={row['density']:g} input={row['input']}"
        case += "" if row["device"] == "cpu" else f" device={row['device']}"
        for metric in (*metrics, *_QUALITY):
            if metric in row and row[metric] is not None and math.isfinite(row[metric]):
                unit = _UNITS.get(metric.partition("_quartile")[0], "1")
                rows.append(("compressors", case, metric, row[metric], unit))
    return pd.DataFrame(rows, columns=["benchmark", "case", "metric", "value", "unit"])


def curves_table(quality: CompressionRun) -> pd.DataFrame:
    """One row per arm, variant, density, layer, step and seed, of the recorded gradients."""
    pieces = []
    for line in quality.of_type("selections"):
        if line["input"] == "real":
            steps = len(line["nnz_over_k"])
            place = {k: line[k] for k in ("task", "arm", "variant", "seed", "density", "source", "n", "k")}
            columns = {m: np.array(line[m], dtype=float) for m in (*_QUALITY[:2], "hit") if m in line}
            pieces.append(pd.DataFrame({**place, "step": np.arange(1, steps + 1), **columns}))
    return pd.concat(pieces, ignore_index=True)


def comparisons_table(quality: CompressionRun) -> pd.DataFrame:
    """One row per arm, variant, density, source and seed: what is sent, over all steps but the first.

    The first has no residual and no history. Nothing sent is an error of 100 %.
    """
    rows = []
    for line in quality.of_type("selections"):
        nnz, error, energy, recall = (
            np.array([math.inf if v is None else v for v in line[m][1:]], dtype=float) for m in _QUALITY[:4]
        )
        summary = {
            "nnz_over_k": np.median(nnz),
            "nnz_low": nnz.min(),
            "nnz_high": nnz.max(),
            "threshold_error": np.median(error),
            "accuracy_percent": 100 * np.mean(1 - np.minimum(error, 1)),
            "energy_captured": energy.mean(),
            "recall": recall.mean(),
            "hit_rate": np.mean(line["hit"][1:]) if "hit" in line else math.nan,
        }
        for name, (low, high) in WINDOWS.items():
            summary[f"percent_{name}"] = 100 * np.mean((nnz >= low - 1e-9) & (nnz <= high + 1e-9))
        kept = {k: v for k, v in line.items() if not isinstance(v, list)}
        rows.append({**kept, "steps": len(nnz), **summary})
    return pd.DataFrame(rows)


WINDOWS = {"two_thirds_to_four_thirds": (2 / 3, 4 / 3), "k_to_two_k": (1.0, 2.0)}
"""nnz / k that Gaussian-k and RedSync accept, by name."""


def costs_table(quality: CompressionRun) -> pd.DataFrame:
    """Memory of a call by size, passes over the gradient, bytes of operands, answers that the host waits for."""
    memory, passes = pd.DataFrame(quality.of_type("memory")), pd.DataFrame(quality.of_type("passes"))
    return pd.concat([memory.assign(cost="memory"), passes.assign(cost="passes")], ignore_index=True)


def steps_table(speeds: Sequence[CompressionRun]) -> pd.DataFrame:
    """Time of sending a step's gradients in percent of the step's, one row per device, arm, density and round."""
    place = ["task", "device", "hardware", "arm", "arm_order", "variant", "density", "n", "layers", "step_milliseconds"]
    lines = [line for speed in speeds for line in speed.of_type("overhead")]
    table = pd.DataFrame(lines, columns=[*place, "percent"]).explode("percent", ignore_index=True)
    table.insert(len(place), "round", table.groupby(["device", "arm", "variant", "density"], sort=False).cumcount())
    return table.astype({"percent": float})


def slopes_table(runs: pd.DataFrame, least: int = 100_000) -> pd.DataFrame:
    """Slope of log time against log N, and of log(N log2 k), per arm, density and input, from `least` entries on."""
    rows = []
    large = runs[runs["n"] >= least]
    for place, group in large.groupby(["device", "hardware", "arm", "variant", "density", "input"], sort=False):
        if group["n"].nunique() < 2:
            continue
        x = np.log(group["n"].to_numpy(dtype=float))
        work = np.log(group["n"] * np.log2(np.maximum(group["k"], 2)))
        slope, expected = (float(np.polyfit(x, y, 1)[0]) for y in (np.log(group["milliseconds"]), work))
        keys = ("device", "hardware", "arm", "variant", "density", "input")
        sizes = {"smallest": int(group["n"].min()), "largest": int(group["n"].max())}
        rows.append({**dict(zip(keys, place, strict=True)), **sizes, "slope": slope, "slope_n_log_k": expected})
    return pd.DataFrame(rows, columns=[*("device", "hardware", "arm", "variant", "density", "input"), *_SLOPES])


_SLOPES = ("smallest", "largest", "slope", "slope_n_log_k")
