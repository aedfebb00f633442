"""What the exchange of gradients costs: bytes of a step, and where the time of a step goes.

Left, bytes that all processes together send in a step, against a dense all-reduce of float32 (dashed). Right, the
median step of the first process: thick, what stands one after another; thin, compressing, communicating and
decompressing, which overlap with backward. *Exposed* is a step's time minus that of a step that sends nothing, where
such a run (`noop`) is there.
"""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from lowbit.analysis import style
from lowbit.analysis.tables import Tables
from lowbit.errors import UserError

_IN_A_ROW = {"forward": "#56B4E9", "backward": "#0072B2", "update": "#009E73", "rest": "0.75"}
_OVERLAPPED = {"compress": "#E69F00", "communicate": "#D55E00", "decompress": "#CC79A7"}


def draw(tables: Tables) -> Figure:
    """One row of two panels per task that has runs of several processes.

    Raises:
        UserError: when there is no such run.
    """
    exchanging = tables.runs[tables.runs["ranks"] > 1]
    if exchanging.empty:
        raise UserError("no run of several processes; make one: python -m lowbit train ... --compressor hggtopk")
    tables = Tables(tables.study, exchanging, tables.curves, tables.comparisons, tables.verdicts)
    heights = [0.9 + 0.34 * len(tables.arms_of(task)) for task in tables.tasks]
    shared = {"sharey": "row", "height_ratios": heights}
    figure, grid = style.grid(tables, 2, row_inches=float(np.mean(heights)), **shared)
    for (left, right), task in zip(grid, tables.tasks, strict=True):
        arms = tables.arms_of(task)
        means = {arm: tables.runs_of(task, arm).mean(numeric_only=True) for arm in arms}
        _bytes(left, means, task)
        _times(right, means, _nothing_sent(tables, task))
        left.set_yticks(range(len(arms)), arms)
        left.set_ylim(len(arms) - 0.4, -0.6)
    patches = [Patch(color=colour, label=part) for part, colour in (_IN_A_ROW | _OVERLAPPED).items()]
    figure.legend(handles=patches, loc="outside upper center", ncols=len(patches))
    ranks = "-".join(str(n) for n in sorted({exchanging["ranks"].min(), exchanging["ranks"].max()}))
    text = (
        f"{ranks} processes. Bytes: of all processes, payload; dashed: dense all-reduce of float32. Times: median step "
        "of the first process, mean over seeds; thin bars run beside backward, and are not told by PyTorch's hooks; "
        "exposed: step minus that of noop."
    )
    style.caption(figure, tables, text)
    return figure


def _nothing_sent(tables: Tables, task: str) -> float:
    """Seconds of a step of the run that sends nothing; NaN without such a run, or with several that differ."""
    rows = tables.runs[(tables.runs["task"] == task) & (tables.runs["method"] == "noop")]
    return float(rows["step_seconds"].mean()) if rows["arm"].nunique() == 1 else math.nan


def _bytes(axes: Axes, means: dict[str, pd.Series], task: str) -> None:
    sent = [row["bytes_per_step"] / 1e6 for row in means.values()]
    dense = {row["dense_bytes_per_step"] / 1e6 for row in means.values()}
    axes.barh(range(len(sent)), sent, height=0.6, color="#D55E00", alpha=0.7, zorder=2)
    for value in dense:
        axes.axvline(value, color="0.2", linestyle="--", linewidth=1.1, zorder=3)
    positive = [value for value in (*sent, *dense) if value > 0]
    if positive:
        axes.set_xscale("log")
        axes.set_xlim(0.4 * min(positive), 6 * max(positive))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for y, (value, row) in enumerate(zip(sent, means.values(), strict=True)):
        share = 100 * row["bytes_per_step"] / row["dense_bytes_per_step"]
        words = f" {value:.3g} MB, {share:.3g}% of dense" if value > 0 else " nothing"
        left = value if value > 0 else axes.get_xlim()[0]
        fits = value < 0.2 * max(positive, default=math.inf)
        axes.annotate(words, (left, y), va="center", ha="left" if fits else "right", fontsize=8, zorder=4)
    axes.set(title=task, xlabel="MB sent in a step")
    axes.grid(axis="y", visible=False)


def _times(axes: Axes, means: dict[str, pd.Series], nothing_sent: float) -> None:
    longest = np.nanmax([row["step_seconds"] for row in means.values()])
    for y, row in enumerate(means.values()):
        named = {part: row[f"{part}_seconds"] for part in ("forward", "backward", "update")}
        named["rest"] = max(0.0, row["step_seconds"] - sum(named.values()))
        _stack(axes, y - 0.12, 0.36, named, _IN_A_ROW)
        _stack(axes, y + 0.2, 0.16, {part: row[f"{part}_seconds"] for part in _OVERLAPPED}, _OVERLAPPED)
        words = f" {1e3 * row['step_seconds']:.3g} ms"
        if np.isfinite(nothing_sent):
            words += f", {1e3 * (row['step_seconds'] - nothing_sent):+.3g} ms exposed"
        axes.annotate(words, (1e3 * row["step_seconds"], y - 0.12), va="center", fontsize=8)
    axes.set(xlabel="ms of a step", xlim=(0, 1e3 * 1.6 * longest))
    axes.grid(axis="y", visible=False)


def _stack(axes: Axes, y: float, height: float, parts: dict[str, float], colours: dict[str, str]) -> None:
    left = 0.0
    for part, seconds in parts.items():
        if np.isfinite(seconds):
            axes.barh(y, 1e3 * seconds, left=1e3 * left, height=height, color=colours[part], zorder=2)
            left += seconds
