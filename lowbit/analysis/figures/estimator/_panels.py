"""What the figures of the estimator study share: panels along the axes, the chosen variants, means over seeds."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from lowbit.analysis import style
from lowbit.analysis.statistics import band
from lowbit.analysis.tables import Tables

TASK = "toy"
Panels = dict[tuple[Any, Any, Hashable], Axes]

_ESTIMATE = ["task", "point", "arm", "variant"]
_DARKEST, _LIGHTEST = 0.0, 0.82
_SMALLEST_PERCENT = 0.1
_TITLE_POINTS = 34.0
_STAR = 1.5
_LEGEND_COLUMNS = 6
_LEGIBLE = {"#F0E442": "#8A8A2B"}  # yellow is faint on white


def levels(rows: pd.DataFrame, axis: str) -> tuple[Any, ...]:
    """Values that the rows have on an axis, numbers rising and words in the study's order; (None,) where it is none."""
    if axis not in rows:
        return (None,)
    known = rows.loc[rows[axis].notna() & (rows[axis] != ""), axis].unique().tolist()
    if all(isinstance(value, (int, float)) for value in known):
        known.sort()
    return tuple(known) or (None,)


def at(rows: pd.DataFrame, **axes: Any) -> pd.DataFrame:
    """Rows with these values on the axes; None takes every row."""
    for axis, value in axes.items():
        rows = rows if value is None else rows[rows[axis] == value]
    return rows


def chosen(tables: Tables, rows: pd.DataFrame) -> pd.DataFrame:
    """Of some rows those of each arm's chosen variant, as the comparisons name it."""
    picked = tables.comparisons.loc[tables.comparisons["chosen"] == 1, _ESTIMATE].drop_duplicates()
    return rows.merge(picked, on=_ESTIMATE)


def arms_in(tables: Tables, rows: pd.DataFrame, wanted: Iterable[str] | None = None) -> tuple[str, ...]:
    """Arms that have rows, in the order of the study."""
    present = set(rows["arm"]) & set(tables.arms if wanted is None else wanted)
    return tuple(arm for arm in tables.arms if arm in present)


def over_seeds(rows: pd.DataFrame, x: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Means over all but the seed, at each x.

    Shape:
        returns (points,) and (seeds, points), NaN where a seed has no value.
    """
    wide = rows.pivot_table(index="seed", columns=x, values=measure, aggfunc="mean")
    return wide.columns.to_numpy(), wide.to_numpy(dtype=float)


def interval(axes: Axes, x: Any, values: np.ndarray, **look: Any) -> None:
    """A line through means over seeds with bars of the 95 % t interval of the mean, none for one seed."""
    if not np.size(values):
        return
    mean, low, high = band(values)
    axes.plot(x, mean, **look)
    bars = {"color": look["color"], "linewidth": 1.0, "alpha": 0.6, "zorder": look.get("zorder", 3) - 0.5}
    axes.vlines(x, low, high, **bars)


def level_line(axes: Axes, values: np.ndarray, **look: Any) -> None:
    """A horizontal line at the mean of one value per seed."""
    if np.isfinite(values).any():
        axes.axhline(np.nanmean(values), **look)


def words(**axes: Any) -> str:
    """Values on axes as a title: numbers with their name, words as they are."""
    known = {axis: value for axis, value in axes.items() if value is not None}
    return ", ".join(value if isinstance(value, str) else f"{axis} {value:g}" for axis, value in known.items())


def layer_words(place: Any) -> str | None:
    """A place in a network as a title: `second_last` is "second-last layer", 8 is "layer 8"; parameters as they are."""
    text = "" if place is None else str(place)
    named = text if "." in text or not text else f"{text.replace('_', '-')} layer"
    return (f"layer {text}" if text.isdigit() else named) or None


def by_start_and_dim(rows: pd.DataFrame, measures: Sequence[Any], row_inches: float = 2.1) -> tuple[Figure, Panels]:
    """Panels of a task: a column per dimension, a row per start and measure.

    Returns:
        The figure, and its axes by start, dimension and measure; start or dimension is None where it is no axis.
    """
    starts, dims = levels(rows, "start_from"), levels(rows, "dim")
    height = style.MARGIN_INCHES + max(row_inches * len(starts) * len(measures), 1.5)
    figure = Figure(figsize=(style.WIDTH_INCHES, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    grid = figure.subplots(len(starts) * len(measures), len(dims), squeeze=False, sharex=True)
    places = [(start, measure) for start in starts for measure in measures]
    panels = {(s, d, m): grid[i, j] for i, (s, m) in enumerate(places) for j, d in enumerate(dims)}
    for (start, dim, _), axes in panels.items():
        axes.set_title(words(dim=dim, start_from=start), fontsize=min(10.0, _TITLE_POINTS / len(dims)))
    return figure, panels


def label(panels: Panels, x: str, y: dict[Any, str]) -> None:
    """Axis labels at the left and the bottom only."""
    for (_, _, measure), axes in panels.items():
        place = axes.get_subplotspec()
        if place.is_first_col():
            axes.set_ylabel(y[measure])
        if place.is_last_row():
            axes.set_xlabel(x)


def absent(axes: Axes, text: str) -> None:
    """An empty panel that says why."""
    style.empty(axes, text)
    # Ticks are hidden and not removed: panels share their axes.
    axes.tick_params(which="both", bottom=False, left=False, labelbottom=False, labelleft=False)
    axes.grid(visible=False)


def sequential(values: Sequence[Any]) -> dict[Any, dict[str, Any]]:
    """Line styles of ordered settings, from dark to light and with other dashes."""
    shades = mpl.colormaps["viridis"](np.linspace(_DARKEST, _LIGHTEST, max(len(values), 2)))
    dashes = style.DASHES
    return {
        value: {"color": to_hex(shades[i]), "linestyle": dashes[i % len(dashes)], "linewidth": 1.6}
        for i, value in enumerate(values)
    }


def keys(looks: dict[Any, dict[str, Any]], name: str = "") -> list[Line2D]:
    """Legend entries of styles, each with its value and the name before it."""
    return [Line2D([], [], label=f"{name} {v:g}" if name else str(v), **look) for v, look in looks.items()]


def legend(figure: Figure, entries: Sequence[Line2D]) -> None:
    """One legend above the figure."""
    if entries:
        rows = -(-len(entries) // _LEGEND_COLUMNS)
        figure.legend(handles=entries, loc="outside upper center", ncols=-(-len(entries) // rows), handlelength=4)


def number_ticks(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic horizontal axis with ticks at these numbers alone."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def positive_scale(axes: Axes, which: str, values: np.ndarray) -> None:
    """Logarithmic, linear below the decade of the smallest positive value where some are zero; as it is without any."""
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size:
        decade = float(10.0 ** np.floor(np.log10(positive.min())))  # a tick of its own, clear of that of zero
        setting = {"linthresh": decade} if (values <= 0).any() else {}
        getattr(axes, f"set_{which}scale")("symlog" if setting else "log", **setting)


def positive_ticks(axes: Axes, which: str) -> None:
    """Plain numbers as ticks of a logarithmic axis, as many as its limits call for; other axes stay as they are."""
    shown = getattr(axes, f"{which}axis")
    if shown.get_scale() != "log":
        return
    low, high = shown.get_view_interval()
    few = (
        MaxNLocator(5)
        if high < 8 * low
        else LogLocator(subs=(1.0, 2.0, 5.0) if high < 60 * low else (1.0,), numticks=6)
    )
    shown.set_major_locator(few)
    shown.set_minor_locator(NullLocator())
    shown.set_major_formatter(StrMethodFormatter("{x:g}"))


def arm_styles(tables: Tables) -> dict[str, style.ArmStyle]:
    """The style of every arm, in colours that small marks show as well."""
    looks = style.arm_styles(tables)
    return {arm: replace(look, colour=_LEGIBLE.get(look.colour, look.colour)) for arm, look in looks.items()}


def dots(look: style.ArmStyle, size: float = 6.0) -> dict[str, Any]:
    """Marks of an arm at one visual size: a star looks smaller than it is."""
    return {**look.dots, "markersize": size * (_STAR if look.marker == "*" else 1.0)}


def arm_keys(tables: Tables, arms: Iterable[str], lines: bool = True) -> list[Line2D]:
    """Legend entries of arms, with or without their lines."""
    styles = arm_styles(tables)
    dashes = {arm: {"linestyle": styles[arm].dash if lines else "none", "linewidth": 1.4} for arm in arms}
    return [Line2D([], [], label=arm, **{**dots(styles[arm]), **dash}) for arm, dash in dashes.items()]


def search(figure: Figure, panels: Panels, curves: pd.DataFrame, axis: str, third: str = "") -> None:
    """The loss against the step: a curve per value of an axis of the arm, its best step marked.

    Args:
        figure: that holds the panels.
        panels: by start, dimension and value on `third`.
        curves: rows of one arm.
        axis: whose values are curves.
        third: another axis of the arm, whose values are rows of panels.
    """
    looks = sequential(levels(curves, axis))
    for (start, dim, value), axes in panels.items():
        rows = at(curves, start_from=start, dim=dim, **({third: value} if third else {}))
        for setting, look in looks.items():
            for _, line in at(rows, **{axis: setting}).groupby(["point", "variant"], sort=False):
                _step_curve(axes, line, look)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.axhline(0.0, color="0.25", linewidth=0.9, zorder=2)
        top = max(float(rows["mean"].max()) if len(rows) else 0.0, _SMALLEST_PERCENT)
        axes.set_ylim(-0.6 * top, 1.15 * top)
    legend(figure, keys({v: look for v, look in looks.items() if v is not None}, axis))


def _step_curve(axes: Axes, line: pd.DataFrame, look: dict[str, Any]) -> None:
    """One curve with its band; the mark of its best step is hollow at an end of the grid."""
    line = line.sort_values("rate")
    rate, mean = line["rate"].to_numpy(), line["mean"].to_numpy(dtype=float)
    axes.plot(rate, mean, **look, zorder=4)
    if line["low"].notna().any():
        axes.fill_between(rate, line["low"], line["high"], color=look["color"], alpha=0.1, linewidth=0)
    if np.isfinite(mean).any():
        best = int(np.nanargmax(mean))
        face = "white" if best in (0, len(mean) - 1) else look["color"]
        edge = {"markeredgecolor": look["color"], "markerfacecolor": face, "markeredgewidth": 1.2}
        axes.plot(rate[best], mean[best], marker="o", markersize=5.5, linestyle="none", zorder=5, **edge)
