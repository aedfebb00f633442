"""Rosenbrock's function along the normalised coordinate discrete gradient: is the estimator computed right?

Lines are seeds. Where epsilon falls with the step, the loss goes on falling: the estimator is right on a smooth
function. Where epsilon stays, its bias 400 x epsilon^2 on odd coordinates holds the descent at y = x^2 and
x = 1 / (1 + 200 epsilon^2): the dotted line is the loss there. Plateaus before a fall are the limit cycle of steps of
one length.
"""

import pandas as pd
from matplotlib.figure import Figure

from lowbit.analysis import style
from lowbit.analysis.tables import Tables


def draw(tables: Tables) -> Figure:
    """One panel per schedule of epsilon."""
    descents = tables.further["descents"]
    points = tuple(descents["point"].unique()) or ("",)
    figure = Figure(figsize=(style.WIDTH_INCHES, style.MARGIN_INCHES + style.ROW_INCHES), layout="constrained")
    panels = figure.subplots(1, len(points), squeeze=False, sharey=True)[0]
    for axes, point in zip(panels, points, strict=True):
        rows = descents[descents["point"] == point]
        if rows.empty:
            style.empty(axes, "no descent in this study")
            continue
        for number, (seed, of_seed) in enumerate(rows.groupby("seed")):
            look = {"color": style.COLOURS[number % len(style.COLOURS)], "linestyle": style.DASHES[number % 3]}
            axes.plot(of_seed["update"], of_seed["loss"].clip(lower=1e-16), linewidth=1.4, label=f"seed {seed}", **look)
        axes.set(yscale="log", xlabel="update", title=_title(rows))
        axes.axhline(_plateau(rows), color="0.4", linestyle=":", linewidth=1)
    panels[0].set_ylabel("value of the function")
    panels[0].legend(fontsize=8)
    words = f"n = {descents['seed'].nunique()} seeds. Hardware: {' and '.join(sorted(descents['hardware'].unique()))}."
    style.note(figure, f"Dotted: value at the fixed point of the biased gradient with the first epsilon. {words}")
    return figure


def _title(rows: pd.DataFrame) -> str:
    stays = "false" in rows["point"].iloc[0]
    return f"epsilon stays at {rows['epsilon'].iloc[0]:g}" if stays else "epsilon falls with the step"


def _plateau(rows: pd.DataFrame) -> float:
    """The function at the biased fixed point of every pair."""
    x = 1 / (1 + 200 * rows["epsilon"].iloc[0] ** 2)
    return float(rows["pairs"].iloc[0] * (x - 1) ** 2)
