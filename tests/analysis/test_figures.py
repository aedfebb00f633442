"""Figures: drawn from any tables, the same bytes every time, one look per arm."""

import os
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from argparse import Namespace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from fake_runs import Fake, aggregated

from lowbit.analysis import figures, style, tables
from lowbit.commands import figure

FIGURES = figures.available("softmax")
DRAW = """
import sys
from pathlib import Path
from lowbit.analysis import figures, style, tables
folder, out = map(Path, sys.argv[1:])
style._RC["savefig.dpi"] = 40
content = tables.load("softmax", folder / "tables", folder / "verdicts")
for name in figures.available("softmax"):
    with style.applied():
        style.save(figures.drawer("softmax", name)(content), out / f"{name}.png", out / f"{name}.svg")
"""


def draw(folder: Path, name: str, out: Path) -> Namespace:
    """Run the figure command."""
    places = {"tables": folder / "tables", "verdicts": folder / "verdicts"}
    args = Namespace(
        study="softmax", name=name, output_png=out / f"{name}.png", output_svg=out / f"{name}.svg", **places
    )
    assert figure.run(args) == 0
    return args


def content_of(folder: Path) -> tables.Tables:
    return tables.load("softmax", folder / "tables", folder / "verdicts")


def test_the_study_has_its_figures():
    expected = {"accuracy_and_loss", "gradient_norms", "final_comparison", "effective_temperature", "ternary_dynamics"}
    assert expected <= set(FIGURES)
    assert all(len(figures.description("softmax", name)) > 100 for name in FIGURES)


def test_bytes_depend_on_the_tables_alone(aggregate_fake, tmp_path):
    finished = aggregate_fake(Fake(tasks={"digits_vit": 2}, arms=("standard", "base2", "e_t1443"), steps=60))
    with mpl.rc_context({"font.size": 14, "lines.linewidth": 5, "svg.fonttype": "none"}):
        for name in FIGURES:
            draw(finished, name, tmp_path / "here")
    environment = {**os.environ, "PYTHONHASHSEED": "77", "SOURCE_DATE_EPOCH": "1"}
    command = [sys.executable, "-c", DRAW, str(finished), str(tmp_path / "there")]
    subprocess.run(command, check=True, env=environment)
    here, there = (sorted(path for path in (tmp_path / side).iterdir()) for side in ("here", "there"))
    assert [path.name for path in here] == [path.name for path in there]
    assert len(here) == 2 * len(FIGURES)
    assert [path.name for path, other in zip(here, there, strict=True) if path.read_bytes() != other.read_bytes()] == []


def texts(figure) -> list[str]:
    """Every text of a figure."""
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_says_n_hardware_and_units(finished, name):
    with style.applied():
        drawn = figures.drawer("softmax", name)(content_of(finished))
        words = " ".join(texts(drawn))
    assert "digits_resnet18 5, digits_vit 3, stdlib_gpt 3" in words.replace("\n", " ")
    assert "Intel(R) Xeon(R)" in words.replace("\n", " ")
    assert all(task in words for task in Fake().tasks)
    labels = {axes.get_xlabel() + axes.get_ylabel() for axes in drawn.axes}
    assert any(unit in label for label in labels for unit in ("(%)", "(nats)", "(points)", "norm"))


EXTREMES = {
    "one seed and one evaluation": Fake(tasks={"digits_vit": 1}, arms=("standard", "base2"), steps=24, evaluations=1),
    "ten arms": Fake(tasks={"stdlib_gpt": 2}, arms=("standard", "base2", *(f"arm{i}" for i in range(8))), steps=24),
}


@pytest.fixture(scope="module", params=EXTREMES)
def extreme(request, tmp_path_factory) -> Path:
    """A study that is as small, or has as many arms, as one may be."""
    return aggregated(tmp_path_factory.mktemp("extreme"), EXTREMES[request.param])


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_can_be_drawn_from_little_and_from_much(extreme, tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # matplotlib warns where a layout does not fit
        args = draw(extreme, name, tmp_path)
    assert args.output_png.read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(args.output_svg).getroot().tag.endswith("svg")


@pytest.mark.parametrize("name", FIGURES)
def test_a_task_without_the_baseline_or_low_bit_weights_is_no_fault(finished, name):
    content = content_of(finished)
    runs = content.runs[~((content.runs["task"] == "digits_vit") & (content.runs["arm"] == "standard"))]
    runs = runs.assign(
        reference_accuracy_percent=runs["reference_accuracy_percent"].where(runs["task"] != "digits_vit")
    )
    comparisons = content.comparisons[content.comparisons["task"] != "digits_vit"]
    curves = content.curves.assign(zero_fraction=np.nan, flip_rate=np.nan)
    bare = tables.Tables("softmax", runs, curves, comparisons, content.verdicts)
    with style.applied():
        words = texts(figures.drawer("softmax", name)(bare))
    if name == "ternary_dynamics":
        assert "no low-bit weights" in words
    if name == "final_comparison":
        assert "no run of standard to compare with" in words


def test_an_arm_looks_the_same_whichever_tasks_have_it(finished):
    content = content_of(finished)
    without = content.runs[~((content.runs["task"] == "digits_resnet18") & (content.runs["arm"] == "base2"))]
    other = tables.Tables("softmax", without, content.curves, content.comparisons, content.verdicts)
    assert style.arm_styles(other) == style.arm_styles(content)
    looks = style.arm_styles(content).values()
    for part in ("colour", "marker", "dash", "width"):
        assert len({str(getattr(look, part)) for look in looks}) == len(content.arms)


def test_arms_that_share_a_temperature_coincide(finished):
    with style.applied():
        drawn = figures.drawer("softmax", "effective_temperature")(content_of(finished))
    axes = drawn.axes[0]
    dots = [line for line in axes.get_lines() if line.get_linestyle() == "None" and len(line.get_xdata()) == 5]
    base2, e_t1443 = dots[1], dots[2]
    assert base2.get_xydata().tolist() == e_t1443.get_xydata().tolist()
    assert base2.get_markersize() > e_t1443.get_markersize()
    assert dots[4].get_markerfacecolor() == "none"


def test_an_unknown_figure_is_named(finished, tmp_path):
    with pytest.raises(ValueError, match=r"unknown variant 'accuracy_and_los'.*did you mean 'accuracy_and_loss'"):
        draw(finished, "accuracy_and_los", tmp_path)
