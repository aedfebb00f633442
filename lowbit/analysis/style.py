"""How figures look: one colour, marker and dash per arm everywhere, and bytes that depend on the tables alone.

Colours are Okabe and Ito's, ordered so that the first arms differ in hue and in lightness. Arms that coincide exactly
stay visible: later arms are drawn above earlier ones with thinner, broken lines.
"""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lowbit.analysis.statistics import band
from lowbit.analysis.tables import Tables
from lowbit.atomic import replacing

COLOURS = ("#000000", "#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#E69F00", "#F0E442")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
DASHES = ("solid", (0, (9, 2)), (0, (2.5, 2)), (0, (6, 2, 1.5, 2)), (0, (1, 1.5)), (0, (4, 4)), (0, (8, 2, 1, 2, 1, 2)))
WIDTH_INCHES, ROW_INCHES, MARGIN_INCHES, CAPTION_CHARACTERS = 10.0, 2.7, 1.25, 155
DPI = 150
CURVE_POINTS = 60

_RC = {
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.dpi": DPI,
    "svg.hashsalt": "lowbit",
}


@dataclass(frozen=True)
class ArmStyle:
    """Colour, marker, dash, line width and place of an arm."""

    colour: str
    marker: str
    dash: Any
    width: float
    order: int

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of `Axes.plot` for a curve."""
        return {"color": self.colour, "linestyle": self.dash, "linewidth": self.width, "zorder": 3 + self.order}

    @property
    def dots(self) -> dict[str, Any]:
        """Arguments of `Axes.plot` for points without a line."""
        edge = {"markeredgecolor": "white", "markeredgewidth": 0.6}
        return {"color": self.colour, "marker": self.marker, "linestyle": "none", "markersize": 6, **edge}


def arm_styles(tables: Tables) -> dict[str, ArmStyle]:
    """The style of every arm of a study, from the order of its arms."""
    styles = {}
    for i, arm in enumerate(tables.arms):
        shrink = 1 - 0.55 * i / max(len(tables.arms) - 1, 1)
        # Beyond the palette colours come again, with other markers.
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
        marker = MARKERS[(i + 3 * (i // len(COLOURS))) % len(MARKERS)]
        styles[arm] = ArmStyle(colour, marker, dash, width=3.2 * shrink, order=i)
    return styles


@contextmanager
def applied() -> Iterator[None]:
    """The project's settings, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        seaborn.set_theme(context="paper", style="ticks", font="DejaVu Sans", rc=_RC)
        yield


def grid(tables: Tables, columns: int, *, row_inches: float = ROW_INCHES, **settings: Any) -> tuple[Figure, np.ndarray]:
    """A figure with one row of axes per task."""
    rows = len(tables.tasks)
    figure = Figure(figsize=(WIDTH_INCHES, MARGIN_INCHES + row_inches * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    return figure, figure.subplots(rows, columns, squeeze=False, **settings)


def legend(figure: Figure, tables: Tables) -> None:
    """One legend for the whole figure, above it."""
    styles = arm_styles(tables)
    handles = [Line2D([], [], label=arm, **{**styles[arm].dots, **styles[arm].line}) for arm in tables.arms]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5), handlelength=4)


def caption(figure: Figure, tables: Tables, text: str, tasks: Sequence[str] | None = None) -> None:
    """What the figure shows, the number of seeds and the hardware, in small print under it.

    Args:
        figure: to write under.
        tables: whose runs are counted, each seed of an arm once.
        text: what the figure shows.
        tasks: those that the figure shows, where it does not show all.
    """
    runs = tables.runs if tasks is None else tables.runs[tables.runs["task"].isin(tasks)]
    if runs.empty:
        note(figure, f"{text} No runs.")
        return
    seeds = runs.groupby(["task", "arm"], sort=False)["seed"].nunique().groupby("task", sort=False)
    counts = {task: "-".join(str(n) for n in sorted({size.min(), size.max()})) for task, size in seeds}
    if len(set(counts.values())) == 1:
        only = next(iter(counts.values()))
        n = f"n = {only} seed{'s' if only != '1' else ''} per arm"
    else:
        n = "n seeds per arm: " + ", ".join(f"{task} {counts[task]}" for task in tables.tasks if task in counts)
    hardware = " and ".join(sorted(runs["hardware"].unique()))
    note(figure, f"{text} {n}. Hardware: {hardware}.")


def note(figure: Figure, text: str) -> None:
    """Small print under a figure."""
    wrapped = textwrap.fill(text, CAPTION_CHARACTERS)
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=8, color="0.25")


def curve(axes: Axes, style: ArmStyle, steps: np.ndarray, values: np.ndarray) -> None:
    """Mean over seeds with a 95 % t band of the mean; geometric mean and band on a logarithmic axis.

    Long curves are averaged over neighbouring points, so that dashes can be told apart.

    Shape:
        steps (points,), values (seeds, points).
    """
    if not np.isfinite(values).any():
        return
    logarithmic = axes.get_yscale() == "log"
    if logarithmic:
        values = np.log(np.where(values > 0, values, np.nan))
    starts = np.arange(0, steps.size, -(-steps.size // CURVE_POINTS))
    sizes = np.diff(np.append(starts, steps.size))
    steps = np.add.reduceat(steps, starts) / sizes
    mean, low, high = band(np.add.reduceat(values, starts, axis=1) / sizes)
    if logarithmic:
        mean, low, high = np.exp(mean), np.exp(low), np.exp(high)
    axes.plot(steps, mean, **style.line)
    if np.isfinite(low).any():
        axes.fill_between(steps, low, high, color=style.colour, alpha=0.12, linewidth=0)


def fit_to_lines(axes: Axes, *, floor: float = -np.inf, ceiling: float = np.inf) -> None:
    """Fit the vertical axis to the lines and not to the bands: with three seeds a t band is wide where runs part."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    drawn = np.concatenate(lines) if lines else np.empty(0)
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return
    logarithmic = axes.get_yscale() == "log"
    low, high = (np.log(drawn) if logarithmic else drawn)[[drawn.argmin(), drawn.argmax()]]
    pad = 0.2 * (high - low) or 0.05 * abs(low) or 1.0
    limits = np.array([low - pad, high + pad])
    axes.set_ylim(np.clip(np.exp(limits) if logarithmic else limits, floor, ceiling))


def plain_log_ticks(*axes: Axis) -> None:
    """Ticks of logarithmic axes as plain numbers at 1, 2 and 5."""
    for axis in axes:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def empty(axes: Axes, text: str) -> None:
    """Say why there is nothing to see."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.4")


def save(figure: Figure, png: Path, svg: Path) -> None:
    """Write a figure as PNG and SVG without dates, versions or random identifiers.

    It is laid out once, with the widths that text has in the PNG. The last bits of a layout depend on where its
    solver's variables lie in memory, and an SVG names its clipping rectangles by all bits: positions are rounded.
    """
    figure.set_dpi(mpl.rcParams["savefig.dpi"])
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position([round(part, 6) for part in axes.get_position(original=True).bounds])
    with replacing(png) as temporary:  # not by `savefig`, which draws everything once more to lay it out
        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
    with replacing(svg) as temporary:
        FigureCanvasSVG(figure).print_svg(temporary, metadata=dict.fromkeys(("Date", "Creator")))
