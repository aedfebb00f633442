"""How the low-bit weights move: the fraction of zero codes, and the fraction of codes that flip per step.

A softmax that changed what ternary training does would show here first. Ternarising Gaussian weights by half their mean
magnitude leaves 31.0 % zeros, which is where a fresh network starts.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.tables import Tables

_GAUSSIAN_ZEROS_PERCENT = 31.0


def draw(tables: Tables) -> Figure:
    """One row per task: zeros left, flips right."""
    figure, grid = style.grid(tables, 2)
    for (zeros, flips), task in zip(grid, tables.tasks, strict=True):
        flips.set_yscale("log")
        _panel(zeros, tables, task, "zero_fraction")
        _panel(flips, tables, task, "flip_rate")
        zeros.set(title=task, ylabel="zero codes (%)")
        flips.set_ylabel("codes flipped per step (%)")
    for axes in grid[-1]:
        axes.set_xlabel("optimizer step")
    style.legend(figure, tables)
    text = (
        "Over all low-bit weights of the network. Lines: mean over seeds (geometric for flips); bands: 95 % t interval "
        f"of the mean. Dotted, where in range: {_GAUSSIAN_ZEROS_PERCENT:.1f} %, zeros of ternarised Gaussian weights."
    )
    style.caption(figure, tables, text)
    return figure


def _panel(axes: Axes, tables: Tables, task: str, measure: str) -> None:
    for arm in tables.arms_of(task):
        steps, values = tables.curve(task, arm, "step", measure)
        style.curve(axes, style.arm_styles(tables)[arm], steps, 100 * values)
    if not axes.get_lines():
        style.empty(axes, "no low-bit weights")
    elif axes.get_yscale() == "log":
        style.plain_log_ticks(axes.yaxis)
    style.fit_to_lines(axes, floor=0.0, ceiling=100.0)
    low, high = axes.get_ylim()
    if axes.get_yscale() == "linear" and low < _GAUSSIAN_ZEROS_PERCENT < high:
        axes.axhline(_GAUSSIAN_ZEROS_PERCENT, color="0.4", linestyle=":", linewidth=1)
