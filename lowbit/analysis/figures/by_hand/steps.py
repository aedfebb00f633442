"""Loss or perplexity over training, against steps and against wall time.

Left against optimizer steps, right against the wall time of training without evaluations. Above, what is trained on;
below, the validation split. Lines are means over seeds, bands 95 % t intervals of the mean.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.tables import Tables

_LABELS = {"loss": "loss (nats)", "perplexity": "perplexity", "accuracy_percent": "accuracy (%)"}


def draw(tables: Tables) -> Figure:
    """Two rows of panels per task."""
    tasks = tables.tasks
    height = style.MARGIN_INCHES + 2 * style.ROW_INCHES * len(tasks)
    figure = Figure(figsize=(style.WIDTH_INCHES, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    grid = figure.subplots(2 * len(tasks), 2, squeeze=False)
    for i, task in enumerate(tasks):
        text = tables.runs.loc[tables.runs["task"] == task, "metric"].iloc[0] == "test perplexity"
        training, validation = ("perplexity", "perplexity") if text else ("loss", "accuracy_percent")
        for column, (along, label) in enumerate((("step", "optimizer step"), ("seconds", "seconds of training"))):
            _panel(grid[2 * i, column], tables, task, "step", training, along)
            _panel(grid[2 * i + 1, column], tables, task, "evaluation", validation, along)
            grid[2 * i, column].set(title=task, ylabel=f"training {_LABELS[training]}")
            grid[2 * i + 1, column].set(ylabel=f"validation {_LABELS[validation]}", xlabel=label)
    style.legend(figure, tables)
    style.caption(
        figure, tables, "Means over seeds with 95 % t intervals of the mean; wall time is without evaluations."
    )
    return figure


def _panel(axes: Axes, tables: Tables, task: str, kind: str, measure: str, along: str) -> None:
    if measure != "accuracy_percent":
        axes.set_yscale("log")
    looks = style.arm_styles(tables)
    for arm in tables.arms_of(task):
        steps, values = tables.curve(task, arm, kind, measure)
        if along == "seconds":
            steps = np.nanmean(tables.curve(task, arm, kind, "seconds")[1], axis=0)
        style.curve(axes, looks[arm], steps, values)
    style.fit_to_lines(axes)
    if axes.get_yscale() == "log":
        style.plain_log_ticks(axes.yaxis)
    axes.set_xlim(left=0)
