"""Time of one call against the size of the gradient, by density: medians over rounds with quartiles, processor time.

Every compressor has error feedback and is timed beside torch.topk with error feedback and beside the floor, which adds
the gradient to the residual and does nothing else.
"""

from matplotlib.figure import Figure

from lowbit.analysis.figures.compressor import _panels
from lowbit.analysis.tables import Tables


def draw(tables: Tables) -> Figure:
    """A panel per density that several sizes were timed at, a row per device."""
    arms, every = _panels.timed_everywhere(tables), _panels.looks(tables)
    rows = _panels.rows_of(tables, arms, "normal")
    densities, devices = _panels.by_size(rows), _panels.devices(rows)
    figure, grid = _panels.panels(len(densities), 4.4, len(devices))
    for axes, device in zip(grid, devices, strict=True):
        for ax, density in zip(axes, densities, strict=True):
            here = rows[(rows["device"] == device) & (rows["density"] == density)]
            for arm in arms:
                own = here[here["arm"] == arm].sort_values("n")
                _panels.with_quartiles(ax, own["n"].to_numpy(), own, "milliseconds", **every[arm])
            ax.set(title=_panels.title(f"density {density:g}", device), yscale="log")
            _panels.sizes_axis(ax, sorted(here["n"].unique()))
            _panels.plain(ax.yaxis)
        axes[0].set_ylabel("processor time of a call (ms)" if device == "cpu" else "time of a call (ms)")
    _panels.legend(figure, tables, arms)
    text = "Normal gradients from rotating buffers, residuals settled; median, bars from quartile to quartile."
    _panels.caption(figure, tables, text, _panels.rounds(rows))
    return figure
