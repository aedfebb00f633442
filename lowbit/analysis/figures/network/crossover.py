"""The density below which a sparse exchange beats a dense one, against the number of workers.

Left, by bytes alone, against a dense exchange of float32. Then by time of a training step, for each gradient, on a link
of every third rate: computed on the assumptions of the study, where compression and latency cost something too.
"""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis import style
from lowbit.analysis.networks import compression
from lowbit.analysis.tables import Tables

_COLOURS = {"allgather": "#D55E00", "shared": "#009E73", "gtopk": "#0072B2", "oktopk": "#CC79A7"}
_NEVER = 1e-5


def draw(tables: Tables) -> Figure:
    """A panel of bytes, and one per gradient."""
    gradients = list(dict.fromkeys(tables.curves["gradient"]))
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + 3.4), layout="constrained")
    axes = figure.subplots(1, 1 + len(gradients), sharey=True)
    for scheme, rows in tables.comparisons.groupby("scheme", sort=False):
        axes[0].plot(rows["workers"], rows["crossover"], color=_COLOURS[scheme], marker="o", markersize=3.5)
    axes[0].set_title("bytes alone")
    rates = sorted(tables.curves["gbit"].unique())[::3]
    for ax, gradient in zip(axes[1:], gradients, strict=True):
        rows = tables.curves[(tables.curves["gradient"] == gradient) & tables.curves["gbit"].isin(rates)]
        for (scheme, rate), own in rows.drop_duplicates(["scheme", "gbit", "workers"]).groupby(["scheme", "gbit"]):
            dash = style.DASHES[rates.index(rate) % len(style.DASHES)]
            ax.plot(own["workers"], own["crossover"].clip(lower=_NEVER), color=_COLOURS[scheme], linestyle=dash)
        ax.set_title(f"a step of {gradient}")
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="workers", ylim=(_NEVER / 1.5, 1.5))
    axes[0].set_ylabel("density below which it pays")
    handles = [Line2D([], [], label=scheme, color=colour, linewidth=2.5) for scheme, colour in _COLOURS.items()]
    handles += [
        Line2D([], [], label=f"{rate:g} Gb/s", color="0.3", linestyle=style.DASHES[i % len(style.DASHES)])
        for i, rate in enumerate(rates)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=3)
    style.note(
        figure,
        "By bytes of the smallest gradient: allgather 1/P, oktopk 1/2, gtopk (P-1)/(2 P log2 P), shared 1. By time: "
        f"against the dense exchange of the assumptions; lines at {_NEVER:g} never. "
        + compression(tables.further["assumptions"]),
    )
    return figure
