"""Figures of the estimator study: what they draw is what the tables say, also where arms, axes or tasks are missing."""

import functools
import itertools
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_twice import assert_same_bytes, drawn, said
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lowbit.analysis import figures, style
from lowbit.analysis.figures.estimator import _panels
from lowbit.analysis.tables import Tables

FIGURES = (
    *("surrogate_gallery", "cdg_search", "nes_search", "best_decrease", "cosine_by_precision", "cosine_by_samples"),
    *("bias_and_variance", "stochastic_rounding", "budget", "multi_step", "gradient_by_depth"),
    *("first_and_last_layers", "windows_by_depth", "stochastic_units"),
)
HARDWARE = "cpu: some processor, 1 thread"
RATES = np.logspace(-3, 0, 7)
TENSORS = ("all", "hidden1", "hidden2")
TOY = {
    "ste": {},
    "cdg": {"epsilon": (0.1, 1.0)},
    "nes": {"sigma": (0.1, 1.0), "samples": (10, 100)},
    "window": {"width": (0.5, 2.0)},
    "identity": {},
    "sr_ste": {"samples": (1, 4)},
}
KEPT = ("best", "last")
MULTI = {"optimizer": ("sgd", "adam"), "noise_fraction": (0.0, 0.5), "keep": KEPT, "lr": (0.03, 0.3)}
TASKS = {
    "toy": ({"dim": (4, 8), "start_from": ("raw", "pretrained")}, TOY),
    "precision": ({"activation": ("binary", "full")}, {"ste": {}}),
    "budget": ({}, {"ste": {}, "cdg": {"epsilon": (0.1, 1.0)}, "nes_max_point": {}, "multi_step_ste": MULTI}),
    "budget_full": ({}, {"ste": {}, "multi_step_ste": MULTI}),
    "xnor": (
        {"layer": ("first", "8", "second_last"), "start_from": ("raw", "pretrained")},
        {"ste": {}, "cdg": {"epsilon": (0.1, 1.0)}, "window": {"width": (0.5, 2.0)}},
    ),
    "stochastic": ({}, {arm: {"samples": (10, 100)} for arm in ("reinforce", "arm", "disarm")}),
}
ARMS = tuple(dict.fromkeys(arm for _, arms in TASKS.values() for arm in arms))


def words(values: dict) -> str:
    return ", ".join(v if isinstance(v, str) else f"{k} {v:g}" for k, v in values.items())


def along(axes: dict) -> list[dict]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def study(
    *, tasks: tuple = tuple(TASKS), without_arms: tuple = (), without_axes: tuple = (), without_at: tuple = ("", ())
) -> Tables:
    """A small study with random numbers; of an arm's variants the last is the chosen one."""
    draw = np.random.default_rng(5)
    runs, layers, curves, picked = [], [], [], set()
    for task in tasks:
        axes, arms = TASKS[task]
        points = along({axis: values for axis, values in axes.items() if axis not in without_axes})
        for arm, point in itertools.product((a for a in arms if a not in without_arms), points):
            if words(point) == without_at[0] and arm in without_at[1]:
                continue
            variants = along({axis: values for axis, values in arms[arm].items() if axis not in without_axes})
            picked.add((task, words(point), arm, words(variants[-1])))
            for variant in variants:
                place = {"task": task, "arm": arm, "arm_order": ARMS.index(arm), "hardware": HARDWARE}
                place |= {"role": "baseline" if arm == "ste" else "arm", "study": "estimator"}
                place |= {"point": words(point), "variant": words(variant), **point, **variant}
                mean = draw.uniform(-5, 20, len(RATES))
                curves += [
                    place | {"rate": r, "mean": m, "low": m - 1, "high": m + 1}
                    for r, m in zip(RATES, mean, strict=True)
                ]
                for seed in (0, 1):
                    for batch in (0, 1):
                        found = dict(zip(("percent_decrease", "percent_held_out"), draw.uniform(1, 50, 2), strict=True))
                        scanned = 0 if arm in ("nes_max_point", "multi_step_ste") else 44
                        cost = {"forward_evaluations": 1 + 10 * ARMS.index(arm), "scan_evaluations": scanned}
                        cost |= {"rate": 0.25 + 0.5 * seed, "at_grid_end": "", "pass_rate": draw.uniform(0.1, 0.9)}
                        for suffix in ("", "_held_out"):
                            found |= {f"loss{suffix}": 1.0, f"decrease{suffix}": draw.uniform(-0.5, 0.5)}
                        runs.append(place | {"seed": seed, "batch": batch, **cost, **found})
                    for tensor in TENSORS:
                        names = ("gradient_mean", "bias", "variance", "rmse", "cosine", "zero_fraction", "ceiling")
                        values = dict(zip(names, draw.uniform(0.1, 0.9, len(names)), strict=True))
                        layers.append(place | {"seed": seed, "tensor": tensor, **values})
    frames = {name: _frame(rows) for name, rows in (("runs", runs), ("layers", layers), ("curves", curves))}
    further = {"layers": frames["layers"], "surrogates": surrogates()}
    return Tables("estimator", frames["runs"], frames["curves"], comparisons(frames["runs"], picked), [], further)


def _frame(rows: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    texts = [axis for axis in ("start_from", "activation", "layer") if axis in table]
    return table.fillna(dict.fromkeys(texts, ""))


def comparisons(runs: pd.DataFrame, picked: set[tuple]) -> pd.DataFrame:
    keys = ["task", "point", "arm", "variant"]
    table = runs.groupby(keys, sort=False)["percent_held_out"].mean().rename("mean").reset_index()
    chosen = [int(tuple(row) in picked) for row in table[keys].itertuples(index=False)]
    extra = {"measure": "percent_held_out", "low_end": 0.0, "low_95": table["mean"] - 1, "high_95": table["mean"] + 1}
    return table.assign(chosen=chosen, **extra)


def surrogates() -> pd.DataFrame:
    u = np.linspace(-2, 2, 9)
    shapes = {("identity", "default"): np.inf, ("window", "default"): 2.0, ("window", "width=0.5"): 1.0}
    pieces = []
    for (name, setting), mass in shapes.items():
        inside = np.abs(u) <= mass / 2
        shape = {"surrogate_gradient": inside * 1.0, "antiderivative": np.clip(u, -mass / 2, mass / 2), "mass": mass}
        pieces.append(pd.DataFrame({"surrogate": name, "setting": setting, "u": u, **shape}))
    return pd.concat(pieces, ignore_index=True)


def panel(figure: Figure, title: str, number: int = 0) -> Axes:
    """The panel with a title, by place among those that have it."""
    return [axes for axes in figure.axes if axes.get_title(loc="left") == title][number]


def line(axes: Axes, values, places=None) -> Line2D:
    """The line of an axes that has exactly these values, wherever or at these places."""
    values = np.asarray(values, dtype=float)
    for candidate in axes.get_lines():
        y = np.asarray(candidate.get_ydata(), dtype=float)
        same = y.shape == values.shape and np.allclose(y, values, rtol=1e-9)
        if same and (places is None or np.allclose(candidate.get_xdata(), places)):
            return candidate
    raise AssertionError(f"no line at {values}; there are {[list(c.get_ydata()) for c in axes.get_lines()]}")


def select(table: pd.DataFrame, **where) -> pd.DataFrame:
    for column, value in where.items():
        table = table[table[column] == value]
    return table


@functools.cache
def whole() -> Tables:
    return study()


@functools.cache
def of_whole(name: str) -> Figure:
    """A figure of the whole study, drawn once; tests read it only."""
    return drawn("estimator", name, whole())


@pytest.fixture
def tables() -> Tables:
    return whole()


@pytest.mark.parametrize("name", FIGURES)
def test_an_estimator_figure_has_the_same_bytes_every_time(name, tmp_path, monkeypatch):
    assert_same_bytes(
        "estimator", name, study(without_axes=("dim", "start_from", "noise_fraction")), tmp_path, monkeypatch
    )


@pytest.mark.parametrize("name", FIGURES)
def test_an_estimator_figure_says_n_and_hardware(name):
    words = said(of_whole(name))
    assert len(figures.description("estimator", name)) > 100
    if name == "surrogate_gallery":
        assert "no seeds" in words
    else:
        assert "n = 2 seeds per arm" in words
        assert HARDWARE in words


SETTINGS = tuple({axis for _, arms in TASKS.values() for axes in arms.values() for axis in axes})
POORER = {
    "nothing but the baseline": study(without_arms=ARMS[1:], without_axes=("dim", "start_from")),
    "no settings": study(without_axes=("dim", "start_from", "activation", *SETTINGS)),
    "arms at some points only": study(
        without_at=("dim 8", ("cdg", "nes", "window", "sr_ste")), without_axes=("start_from", "noise_fraction")
    ),
}


@pytest.mark.parametrize("without", POORER)
@pytest.mark.parametrize("name", FIGURES)
def test_an_estimator_figure_does_without_arms_and_axes(name, without):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn("estimator", name, POORER[without]).axes


NEEDS = {
    "cdg_search": ("toy", "no arm cdg on a task toy"),
    "nes_search": ("toy", "no arm nes on a task toy"),
    "best_decrease": ("toy", "no task toy with an axis dim"),
    "cosine_by_precision": ("precision", "no arm ste on a task precision"),
    "cosine_by_samples": ("toy", "no arm nes with an axis samples"),
    "bias_and_variance": ("toy", "no arm window"),
    "stochastic_rounding": ("toy", "no arm sr_ste"),
    "budget": ("budget", "no task budget"),
    "gradient_by_depth": ("toy", "on a task toy"),
    "first_and_last_layers": ("xnor", "no arms ste and cdg on a task xnor"),
    "windows_by_depth": ("xnor", "no arm window on a task xnor"),
    "stochastic_units": ("stochastic", "no arms reinforce, arm, disarm"),
}


@pytest.mark.parametrize("name", NEEDS)
def test_an_estimator_figure_says_what_is_missing(name):
    task, words = NEEDS[name]
    assert words in said(drawn("estimator", name, study(tasks=tuple(t for t in TASKS if t != task))))


def test_gallery_draws_derivative_above_antiderivative_with_the_mass():
    bare = study(tasks=("precision",))
    figure = drawn("estimator", "surrogate_gallery", bare)
    shapes = bare.further["surrogates"]
    for setting in ("default", "width=0.5"):
        rows = select(shapes, surrogate="window", setting=setting)
        line(panel(figure, "window, mass 2"), rows["surrogate_gradient"], rows["u"])
        below = figure.axes[figure.axes.index(panel(figure, "window, mass 2")) + 3]
        line(below, rows["antiderivative"], rows["u"])
    assert "width 0.5, mass 1" in said(figure)
    assert panel(figure, "identity, mass infinite").get_visible()


@pytest.mark.parametrize("name", ["cdg_search", "nes_search"])
def test_search_draws_every_setting_and_marks_its_best_step(name, tables):
    figure = of_whole(name)
    arm, axis = ("cdg", "epsilon") if name == "cdg_search" else ("nes", "sigma")
    ends = 0
    for (start, dim), number in itertools.product(itertools.product(("raw", "pretrained"), (4, 8)), (0, 1)):
        here = select(tables.curves, arm=arm, start_from=start, dim=dim)
        if arm == "nes":
            here = select(here, samples=(10, 100)[number])
        axes = panel(figure, f"dim {dim}, {start}", number if arm == "nes" else 0)
        assert to_rgba(axes.get_facecolor()) == to_rgba("0.955" if (arm, start) == ("nes", "pretrained") else "white")
        line(axes, [0.0, 0.0])
        for setting in (0.1, 1.0):
            mean = select(here, **{axis: setting})["mean"].to_numpy()
            curve, best = line(axes, mean, RATES), line(axes, [mean.max()], [RATES[mean.argmax()]])
            at_end = mean.argmax() in (0, len(RATES) - 1)
            ends += at_end
            assert to_hex(best.get_markerfacecolor()) == ("#ffffff" if at_end else to_hex(curve.get_color()))
    assert ends


def best_on_the_other(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The estimates on each of two batches of one arm at one point, with the variant that is best on the other."""
    best = {batch: select(rows, batch=batch).groupby("variant")[measure].mean().idxmax() for batch in (0, 1)}
    return pd.concat([select(rows, batch=batch, variant=best[1 - batch]) for batch in (0, 1)])


def test_best_decrease_measures_each_batch_with_what_is_best_on_the_other(tables):
    figure = of_whole("best_decrease")
    for start, arm in itertools.product(("raw", "pretrained"), TOY):
        rows = select(tables.runs, task="toy", arm=arm, start_from=start)
        means = [best_on_the_other(select(rows, dim=d), "percent_held_out")["percent_held_out"].mean() for d in (4, 8)]
        shown = line(panel(figure, start), means)
        assert shown.get_color() == style.arm_styles(tables)[arm].colour
        assert np.allclose(shown.get_xdata(), (4, 8), rtol=0.1)


def test_best_decrease_marks_a_best_step_at_either_end_of_the_grid(tables):
    ends = tables.runs["arm"].map({"nes": "low", "cdg": "high"}).fillna("")
    changed = replace(tables, runs=tables.runs.assign(at_grid_end=ends))
    styles = style.arm_styles(tables)
    for content, flagged in ((changed, True), (tables, False)):
        marks = [
            m for m in panel(drawn("estimator", "best_decrease", content), "raw").get_lines() if m.get_zorder() > 9
        ]
        faces = {(to_hex(m.get_markerfacecolor()), m.get_fillstyle()) for m in marks}
        hollow, half = ("#ffffff", "full"), (to_hex(styles["cdg"].colour), "bottom")
        assert (hollow in faces) == (half in faces) == flagged
        assert len(marks) == 2 * len(TOY)


def test_precision_draws_seeds_mean_and_ceiling(tables):
    axes = of_whole("cosine_by_precision").axes[0]
    rows = select(tables.further["layers"], task="precision")
    for (_, _), cell in rows.groupby(["activation", "tensor"]):
        line(axes, cell["cosine"])
        line(axes, [cell["cosine"].mean()] * 2)
        line(axes, [cell["ceiling"].mean()] * 2)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["hidden1", "hidden2", "all layers"]


def test_samples_draw_nes_its_theory_and_the_ceiling(tables):
    figure = of_whole("cosine_by_samples")
    everything = select(tables.further["layers"], task="toy", tensor="all", start_from="raw", dim=8)
    for number, measure in enumerate(("cosine", "rmse")):
        axes = panel(figure, "dim 8, raw", number)
        for sigma in (0.1, 1.0):
            line(axes, select(everything, arm="nes", sigma=sigma).groupby("samples")[measure].mean())
        line(axes, [select(everything, arm="ste")[measure].mean()] * 2)
        line(axes, [select(everything, arm="cdg", epsilon=1.0)[measure].mean()] * 2)
    n, weights = np.geomspace(10, 100, 50), 3 * 8**2
    line(panel(figure, "dim 8, raw", 0), np.sqrt(n / (n + weights + 1)), n)
    line(panel(figure, "dim 8, raw", 1), np.sqrt((weights + 1) / n), n)
    line(panel(figure, "dim 8, raw", 0), [everything.groupby("seed")["ceiling"].mean().mean()] * 2)


def test_stochastic_units_draw_draws_and_the_root_of_them(tables):
    figure = of_whole("stochastic_units")
    for number, measure in enumerate(("cosine", "rmse")):
        for tensor in ("hidden1", "hidden2"):
            rows = select(tables.further["layers"], task="stochastic", tensor=tensor)
            axes = figure.axes[2 * number + ("hidden1", "hidden2").index(tensor)]
            for arm in ("reinforce", "arm", "disarm"):
                line(axes, select(rows, arm=arm).groupby("samples")[measure].mean())
    first = select(rows, samples=10)["rmse"].mean()
    line(figure.axes[3], [first, first / np.sqrt(10)], (10, 100))


def test_bias_and_variance_draw_the_plane_and_the_sweep(tables):
    figure = of_whole("bias_and_variance")
    everything = select(tables.further["layers"], task="toy", tensor="all", start_from="raw", dim=4)
    window = select(everything, arm="window", width=2.0)
    line(panel(figure, "dim 4, raw"), [window["variance"].mean()], [window["bias"].mean()])
    clipped = select(everything, arm="ste")
    for number, measure in enumerate(("bias", "variance")):
        narrow = select(everything, arm="window", width=0.5)[measure].mean()
        means = [narrow, clipped[measure].mean(), window[measure].mean()]
        line(panel(figure, "window, raw", number), means, (0.5, 1.0, 2.0))
    runs = select(tables.runs, task="toy", start_from="raw", dim=4)
    passing = [select(runs, arm="window", width=0.5), select(runs, arm="ste"), select(runs, arm="window", width=2.0)]
    line(panel(figure, "window, raw", 2), [100 * rows["pass_rate"].mean() for rows in passing], (0.5, 1.0, 2.0))
    runs = select(runs, arm="ste")
    assert np.isclose(panel(figure, "window, raw", 3).get_lines()[0].get_ydata()[1], runs["percent_held_out"].mean())


def test_bias_and_variance_need_two_batches(tables):
    layers = tables.further["layers"].assign(bias=np.nan, variance=np.nan)
    figure = drawn("estimator", "bias_and_variance", replace(tables, further={**tables.further, "layers": layers}))
    for title in ("dim 4, raw", "dim 8, pretrained", "window, raw", "window, pretrained"):
        assert "needs two batches" in panel(figure, title).texts[0].get_text()


def test_on_an_axis_with_zero_the_next_tick_is_a_decade_away():
    axes = Figure().add_subplot()
    axes.plot([0.0, 0.03, 2.0], [0.0, 0.03, 2.0])
    _panels.positive_scale(axes, "x", np.array([0.0, 0.03, 2.0]))
    zero, following = (axes.transData.transform((tick, 0.0))[0] for tick in sorted(axes.get_xticks())[:2])
    decade = axes.transData.transform((1.0, 0.0))[0] - axes.transData.transform((0.1, 0.0))[0]
    assert 0.0 in axes.get_xticks()
    assert following - zero >= 0.9 * decade


def test_stochastic_rounding_draws_samples_against_the_plain_gradient(tables):
    figure = of_whole("stochastic_rounding")
    rows = select(tables.runs, task="toy", start_from="pretrained", dim=8)
    axes = panel(figure, "dim 8, pretrained")
    line(axes, select(rows, arm="sr_ste").groupby("samples")["percent_held_out"].mean(), (1, 4))
    line(axes, [select(rows, arm="ste")["percent_held_out"].mean()] * 2)


def test_budget_draws_a_large_mark_cross_fitted_and_small_ones_for_variants_at_their_whole_cost(tables):
    figure = of_whole("budget")
    titles = {"percent_decrease": "on the searched batch", "percent_held_out": "on held-out batches"}
    for measure, title in titles.items():
        rows = select(tables.runs, task="budget", arm="cdg")
        colour = style.arm_styles(tables)["cdg"].colour
        marks = [shown for shown in panel(figure, title).get_lines() if shown.get_color() == colour]
        large = max(marks, key=lambda mark: mark.get_markersize())
        assert np.isclose(large.get_ydata()[0], best_on_the_other(rows, measure)[measure].mean())
        for epsilon in (0.1, 1.0):
            mean = select(rows, epsilon=epsilon)[measure].mean()
            (small,) = (m for m in marks if m is not large and np.isclose(m.get_ydata()[0], mean))
            assert large.get_markersize() > small.get_markersize()
            assert small.get_xdata()[0] == rows["forward_evaluations"].iloc[0] + 44
        assert np.isclose(large.get_xdata()[0], small.get_xdata()[0], rtol=0.1)
        bottom, top = panel(figure, title).get_ylim()
        for shown in panel(figure, title).get_lines():
            assert bottom < shown.get_ydata()[0] < top, "both panels share one axis"


@pytest.mark.parametrize(("number", "suffix"), [(0, ""), (1, "_held_out")])
def test_multi_step_draws_relative_gains_by_initialisation(tables, number, suffix):
    axes = of_whole("multi_step").axes[2 * number + 1]
    for task, (optimizer, keep) in itertools.product(
        ("budget", "budget_full"), itertools.product(("sgd", "adam"), KEPT)
    ):
        rows = select(tables.runs, task=task)
        multi = select(rows, arm="multi_step_ste", optimizer=optimizer, keep=keep, noise_fraction=0.5)
        multi = multi.merge(select(rows, arm="ste"), on=["seed", "batch"], suffixes=("", "_of_ste"))
        single = multi[f"loss{suffix}_of_ste"] - multi[f"decrease{suffix}_of_ste"]
        gains = multi.assign(gain=100 * (1 - (multi["loss" + suffix] - multi["decrease" + suffix]) / single))
        shown = line(axes, best_on_the_other(gains, "gain").groupby("seed")["gain"].mean())
        assert (to_hex(shown.get_markerfacecolor()) == "#ffffff") == (keep == "last")
    assert "ste 45, multi_step_ste 71 to the best point and 71 to the last point" in said(of_whole("multi_step"))


def test_depth_draws_the_chosen_variants_by_layer(tables):
    figure = of_whole("gradient_by_depth")
    layers = select(tables.further["layers"], task="toy", start_from="raw", dim=8)
    for number, measure in enumerate(("gradient_mean", "variance")):
        for arm, variant in (("ste", ""), ("window", "width 2"), ("identity", ""), ("cdg", "epsilon 1")):
            rows = select(layers, arm=arm, variant=variant)
            means = [select(rows, tensor=tensor)[measure].mean() for tensor in TENSORS[1:]]
            shown = line(panel(figure, "dim 8, raw", number), means)
            assert shown.get_color() == style.arm_styles(tables)[arm].colour


def test_layers_draw_a_pair_of_marks_per_batch_and_count_them(tables):
    figure = of_whole("first_and_last_layers")
    for layer, words_of_it in (("first", "first layer"), ("8", "layer 8"), ("second_last", "second-last layer")):
        rows = select(tables.runs, task="xnor", layer=layer, start_from="pretrained")
        axes = panel(figure, f"{words_of_it}, pretrained")
        pairs = [select(rows, arm="ste"), best_on_the_other(select(rows, arm="cdg"), "percent_held_out")]
        values = [arm.sort_values(["seed", "batch"])["percent_held_out"].to_numpy() for arm in pairs]
        for own in values:
            line(axes, own, (0, 1, 3, 4))
            line(axes, [own.mean()] * 2)
        wins = int((values[1] > values[0]).sum())
        assert f"cdg further on {wins} of 4" in axes.get_xlabel()
        for epsilon in pairs[1]["epsilon"].unique():
            assert f"epsilon {epsilon:g}" in axes.get_xlabel().splitlines()[2]
        assert axes.get_xlabel().endswith("step 0.5")


def test_windows_draw_gain_pass_rate_bias_size_and_noise_of_each_layer(tables):
    figure = of_whole("windows_by_depth")
    everything = select(tables.further["layers"], task="xnor", tensor="all", start_from="raw", layer="8")
    for number, measure in enumerate(("bias", "gradient_mean", "variance"), 2):
        means = [
            select(everything, arm="window", width=0.5)[measure].mean(),
            select(everything, arm="ste")[measure].mean(),
            select(everything, arm="window", width=2.0)[measure].mean(),
        ]
        line(panel(figure, "raw", number), means, (0.5, 1.0, 2.0))
    runs = select(tables.runs, task="xnor", start_from="raw", layer="8")
    passing = [select(runs, arm="window", width=0.5), select(runs, arm="ste"), select(runs, arm="window", width=2.0)]
    line(panel(figure, "raw", 1), [100 * rows["pass_rate"].mean() for rows in passing], (0.5, 1.0, 2.0))
    gains = select(runs, arm="ste")["percent_held_out"]
    assert any(np.isclose(shown.get_ydata()[1:2], gains.mean()).any() for shown in panel(figure, "raw", 0).get_lines())


def test_estimator_figures_load_no_torch():
    folder = Path(style.__file__).parent / "figures" / "estimator"
    assert set(FIGURES) <= set(figures.available("estimator"))
    assert not [path.name for path in folder.glob("*.py") if "torch" in path.read_text(encoding="utf-8")]
