"""Time of one call against the density, at the size that most densities were timed at.

torch.topk on a CPU sorts partially up to a density of 1/64 and partitions above: the dotted line.
"""

from matplotlib.figure import Figure

from lowbit.analysis.figures.compressor import _panels
from lowbit.analysis.tables import Tables

_KINK = 1 / 64


def draw(tables: Tables) -> Figure:
    """Times on the left, ratios to torch.topk on the right; a row per device."""
    arms, every = _panels.timed_everywhere(tables), _panels.looks(tables)
    rows = _panels.rows_of(tables, arms, "normal")
    size = rows.groupby("n")["density"].nunique().idxmax()
    rows = rows[rows["n"] == size].sort_values("density")
    devices = _panels.devices(rows)
    figure, grid = _panels.panels(2, 4.4, len(devices))
    for axes, device in zip(grid, devices, strict=True):
        for ax, metric in zip(axes, ("milliseconds", "ratio_to_topk"), strict=True):
            for arm in arms if metric == "milliseconds" else _panels.compared(arms):
                own = rows[(rows["arm"] == arm) & (rows["device"] == device)]
                _panels.with_quartiles(ax, own["density"].to_numpy(), own, metric, **every[arm])
            ax.set(xscale="log", yscale="log", xlabel="density k / N")
            ax.axvline(_KINK, color="0.4", linestyle=":", linewidth=1.0, zorder=1)
            for axis in (ax.xaxis, ax.yaxis):
                _panels.plain(axis)
        axes[1].axhline(1.0, color="0.3", linewidth=0.9, zorder=2)
        of_call = "processor time of a call (ms)" if device == "cpu" else "time of a call (ms)"
        axes[0].set(title=_panels.title(f"N = {size:,}", device), ylabel=of_call)
        axes[1].set(title=_panels.title("against torch.topk(sorted=False)", device), ylabel="times faster")
    _panels.legend(figure, tables, arms)
    text = (
        "Normal gradients, residuals settled; median, bars from quartile to quartile. Dotted: density 1/64, where "
        "torch.topk changes from a partial sort to a partition on a CPU."
    )
    _panels.caption(figure, tables, text, _panels.rounds(rows))
    return figure
