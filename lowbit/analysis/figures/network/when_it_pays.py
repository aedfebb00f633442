"""When compression pays: how many times faster a training step is with the best sparse scheme than with a dense one.

Computed, not measured: a map of links and numbers of workers for each gradient and density, on the assumptions below.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.networks import compression
from lowbit.analysis.tables import Tables

_LETTERS = {"allgather": "a", "shared": "s", "gtopk": "g", "oktopk": "o"}
_CHOSEN = ("allgather", "gtopk", "oktopk")  # shared takes indices at random, which trains differently


def draw(tables: Tables) -> Figure:
    """A row per gradient, a column per density."""
    curves = tables.curves[tables.curves["scheme"].isin(_CHOSEN)]
    gradients, densities = list(dict.fromkeys(curves["gradient"])), list(dict.fromkeys(curves["density"]))
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 3.1 * len(gradients)), layout="constrained")
    axes = figure.subplots(len(gradients), len(densities), squeeze=False)
    best = curves.loc[curves.groupby(["gradient", "density", "workers", "gbit"])["times_faster"].idxmax()]
    norm = TwoSlopeNorm(vcenter=0, vmin=-1, vmax=max(0.5, float(np.log2(best["times_faster"]).max())))
    for i, gradient in enumerate(gradients):
        for j, density in enumerate(densities):
            rows = best[(best["gradient"] == gradient) & (best["density"] == density)]
            _map(axes[i, j], rows, norm)
            axes[i, j].set_title(f"{gradient}, density {density:g}")
            axes[i, j].set_xlabel("link, Gb/s" if i == len(gradients) - 1 else "")
            axes[i, j].set_ylabel("workers" if j == 0 else "")
    times = tables.further["assumptions"].set_index("setting")["value"].astype(float)
    measured = compression(tables.further["assumptions"])
    letters = ", ".join(f"{letter} {scheme}" for scheme, letter in _LETTERS.items() if scheme in _CHOSEN)
    text = (
        f"Times faster than the dense exchange; blue: compression pays, red: it costs. The letter is the best scheme: "
        f"{letters}. {measured} Assumed: {times['tokens']:g} tokens a worker and step at "
        f"{times['flops_per_second'] / 1e12:g} TFLOP/s; "
        f"{times['sum_bytes']:g} bytes of memory for each that arrives, at "
        f"{times['memory_bytes_per_second'] / 1e12:g} TB/s; {1e6 * times['latency_seconds']:g} us a message; values of "
        f"{times['dense_bytes']:g} bytes dense and {times['value_bytes']:g} sparse; the network hides behind "
        f"{100 * times['overlap']:g} % of backward. Replace these by your own: python -m lowbit cost --help. What the "
        "density does to the loss is no part of it."
    )
    style.note(figure, text)
    return figure


def _map(ax: Axes, rows: pd.DataFrame, norm: TwoSlopeNorm) -> None:
    table = rows.pivot(index="workers", columns="gbit", values="times_faster")
    schemes = rows.pivot(index="workers", columns="gbit", values="scheme")
    ax.pcolormesh(np.log2(table.to_numpy()), cmap="RdBu", norm=norm, edgecolors="white", linewidth=0.4)
    for (y, x), times in np.ndenumerate(table.to_numpy()):
        label = f"{times:.0f}" if times >= 9.95 else f"{times:.1f}" if times >= 1.05 else f"{times:.2f}"
        dark = norm(np.log2(times)) > 0.8 or norm(np.log2(times)) < 0.2
        words = {"ha": "center", "va": "center", "fontsize": 6.5, "color": "white" if dark else "0.15"}
        ax.text(x + 0.5, y + 0.5, f"{label} {_LETTERS[schemes.iloc[y, x]]}", **words)
    ax.set_xticks(np.arange(table.shape[1]) + 0.5, [f"{rate:g}" for rate in table.columns])
    ax.set_yticks(np.arange(table.shape[0]) + 0.5, [str(workers) for workers in table.index])
    ax.grid(visible=False)
