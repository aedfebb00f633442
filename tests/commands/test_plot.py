"""`lowbit plot`: runs by hand are told apart, and every figure shows the numbers of their records."""

import json
import math
import re
import shutil
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "analysis"))
from drawn_twice import assert_same_bytes
from fake_parallel_runs import PARAMETERS, STEPS, Fake, arm

from lowbit.__main__ import main
from lowbit.analysis import collected, figures, style
from lowbit.analysis.runs import read
from lowbit.errors import UserError

DENSITIES = (0.01, 0.05, 0.1)
ARMS = [None, arm("allreduce"), arm("noop"), arm("bf16")]
ARMS += [arm(compressor=name, density=density) for name in ("hggtopk", "topk") for density in DENSITIES]
ARMS += [arm(compressor="topk", feedback={"name": "none"})]
NAMES = figures.available("by_hand")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    fake = Fake({"digits_resnet18": ARMS, "stdlib_gpt": ARMS[:2]}, gain={"hggtopk": 10.0})
    return fake.write(tmp_path_factory.mktemp("by_hand"))


@pytest.fixture(scope="module")
def tables(folder):
    return collected.collect([folder])


def drawn(name, content):
    with style.applied():
        return figures.drawer("by_hand", name)(content)


def said(part):
    return " ".join(text.get_text() for text in part.findobj(mpl.text.Text)).replace("\n", " ")


def test_arms_are_named_by_their_exchange_and_stand_in_order(tables):
    assert tables.tasks == ("digits_resnet18", "stdlib_gpt")
    sparse = [f"{name} {density}%" for name in ("hggtopk", "topk") for density in (1, 5, 10)]
    others = ["one process", "dense", "noop (sends nothing)", "bf16"]
    assert list(tables.arms_of("digits_resnet18")) == [*others, *sparse, "topk (feedback none) 1%"]
    assert len(tables.runs) == 3 * (len(ARMS) + 2)


def test_what_else_sets_two_arms_apart_is_in_their_names(tmp_path):
    same = arm(density=0.05)
    Fake({"a": [same, {**same, "pipeline": False}, {**same, "compressor": {"name": "hggtopk", "exact": False}}]}).write(
        tmp_path
    )
    names = collected.collect([tmp_path]).arms
    assert names == (
        "hggtopk 5%, exact False, pipeline True",
        "hggtopk 5%, exact True, pipeline False",
        "hggtopk 5%, exact True, pipeline True",
    )
    lines = {str(line.get_label()) for line in drawn("sparse", collected.collect([tmp_path])).legends[0].get_lines()}
    assert len(lines) == 3


def test_a_compressor_that_sends_all_has_no_density(tmp_path):
    everything = arm(compressor="none", feedback={"name": "none"})
    tables = collected.collect([Fake({"a": [everything, arm()]}).write(tmp_path)])
    assert tables.arms == ("none", "hggtopk 1%")
    assert list(tables.runs["compressor"].unique()) == ["", "hggtopk"]
    assert {text.get_text() for text in drawn("sparse", tables).legends[0].get_texts()} == {"none", "hggtopk"}


def test_a_run_is_read_once_however_it_is_named_and_twins_are_refused(folder, tables, tmp_path):
    assert len(collected.collect([folder, folder / "digits_resnet18-1/seed0"]).runs) == len(tables.runs)
    shutil.copytree(folder / "digits_resnet18-1/seed0", tmp_path / "twin")
    with pytest.raises(UserError, match="the same run twice; give one of them"):
        collected.collect([folder, tmp_path])


def test_what_a_run_started_from_is_found_from_any_folder(tmp_path, monkeypatch):
    """Its spec names the weights relative to the folder where it was trained; another project has some of that name."""
    epochs = {"mine": 7.0, "other": 3.0}
    for project, before in epochs.items():
        results = Fake({"start": [None], "a": [arm()]}, seeds=1).write(tmp_path / project / "results")
        _respec(results / "start-0/seed0", train={"epochs": before})
        _respec(results / "a-0/seed0", start_from="results/start-0/seed0/best.safetensors")
    for here in (tmp_path / "mine", tmp_path / "other", tmp_path, Path("/")):
        monkeypatch.chdir(here)
        assert read(tmp_path / "mine/results/a-0/seed0").epochs_before == 7.0
    monkeypatch.chdir(tmp_path / "mine/results/a-0")
    assert read(Path("seed0")).epochs_before == 7.0
    (tmp_path / "mine/results/a-0").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "mine")
    assert read(tmp_path / "moved/seed0").epochs_before == 7.0


def _respec(folder, **settings):
    path = folder / "spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_numbers_of_a_run_are_those_of_its_records(folder, tables):
    row = tables.runs_of("digits_resnet18", "hggtopk 5%").iloc[0]
    summary = json.loads((folder / "digits_resnet18-5/seed0/summary.json").read_text())
    assert row["bytes_per_step"] == pytest.approx(summary["exchange"]["wire_bytes"] / STEPS)
    assert row["bytes_per_step"] / row["dense_bytes_per_step"] == pytest.approx(0.1)
    assert row["dense_bytes_per_step"] == 8 * PARAMETERS
    assert (row["compressor"], row["density"], row["ranks"]) == ("hggtopk", 0.05, 2)
    assert row["final"] == pytest.approx(100 * summary["test"]["best"]["accuracy"])
    assert (row["step_seconds"], row["communicate_seconds"]) == (0.055, 0.012)
    alone = tables.runs_of("stdlib_gpt", "one process").iloc[0]
    assert alone["metric"] == "test perplexity"
    assert alone["ranks"] == 1
    assert math.isnan(alone["bytes_per_step"])


def test_wall_time_is_that_of_steps_or_of_windows_of_the_log(folder):
    for number, step_seconds in ((4, 0.055), (0, 0.080)):  # an exchanging run; one process, which has a rate only
        steps = read(folder / f"digits_resnet18-{number}/seed0").steps
        seconds = collected.wall_seconds(steps)
        np.testing.assert_allclose(seconds, step_seconds * np.arange(1, STEPS + 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_has_the_same_bytes_every_time_and_says_n_and_hardware(name, tmp_path, monkeypatch):
    fake = Fake({"digits_resnet18": [ARMS[1], ARMS[2], ARMS[4], ARMS[-1]]}, seeds=2)
    few = collected.collect([fake.write(tmp_path / "runs")])
    assert_same_bytes("by_hand", name, few, tmp_path, monkeypatch)
    words = said(drawn(name, few))
    assert "n = 2 seeds per arm" in words
    assert "cpu: a chip, 1 thread" in words
    assert len(figures.description("by_hand", name)) > 100


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_drawn_of_one_run(name, tmp_path):
    content = collected.collect([Fake({"digits_resnet18": [arm()]}, seeds=1).write(tmp_path)])
    assert "n = 1 seed per arm" in said(drawn(name, content))


def test_curves_against_time_end_when_training_did(tables):
    axes = drawn("steps", tables).axes
    assert [a.get_ylabel() for a in axes[::2]] == [
        *("training loss (nats)", "validation accuracy (%)", "training perplexity", "validation perplexity")
    ]
    by_steps, by_seconds = ({round(line.get_xdata()[-1], 6) for line in a.get_lines()} for a in axes[2:4])
    assert by_steps == {STEPS}
    assert by_seconds == {STEPS * s for s in (0.080, 0.100, 0.040, 0.070, 0.055)}


def test_the_summary_shows_means_intervals_and_no_run_that_sends_nothing(tables):
    axes = drawn("final", tables).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert "noop (sends nothing)" not in labels
    assert len(labels) == len(ARMS) - 1
    means = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "D"]
    rows = tables.runs[(tables.runs["task"] == "digits_resnet18") & (tables.runs["method"] != "noop")]
    np.testing.assert_allclose(means, rows.groupby("arm_order")["final"].mean())
    bars = [line for line in axes.get_lines() if line.get_linewidth() == 5]
    assert len(bars) == len(labels)
    assert means[labels.index("hggtopk 1%")] > bars[0].get_xdata()[0]


def test_communication_shows_shares_and_exposed_time(tables):
    bytes_axes, times = drawn("communication", tables).axes[:2]
    words = [text.get_text() for text in bytes_axes.texts]
    assert words[:3] == [" 8 MB, 100% of dense", " nothing", " 4 MB, 50% of dense"]
    assert " 0.16 MB, 2% of dense" in words
    assert [t.get_text() for t in times.texts][:3] == [
        *(" 100 ms, +60 ms exposed", " 40 ms, +0 ms exposed", " 70 ms, +30 ms exposed")
    ]
    widths = [bar.get_width() for bar in times.patches if bar.get_y() + bar.get_height() / 2 == pytest.approx(-0.12)]
    np.testing.assert_allclose(widths, [10, 85, 3, 2])  # forward, backward, update, rest
    silent = tables.runs[tables.runs["method"] == "bf16"]
    assert silent[["compress_seconds", "communicate_seconds", "decompress_seconds"]].isna().all().all(), "not 0"


def test_without_a_run_that_sends_nothing_no_time_is_called_exposed(tmp_path):
    content = collected.collect([Fake({"digits_resnet18": [arm("allreduce"), arm()]}).write(tmp_path)])
    assert [text.get_text() for text in drawn("communication", content).axes[1].texts] == [" 100 ms", " 55 ms"]


def test_compressors_are_compared_at_every_density(tables):
    finals, shares = drawn("sparse", tables).axes[:2]
    hggtopk = next(line for line in finals.get_lines() if len(line.get_xdata()) == 3)
    np.testing.assert_allclose(hggtopk.get_xdata() / hggtopk.get_xdata()[0], [1, 5, 10])
    means = [tables.runs_of("digits_resnet18", f"hggtopk {d}%")["final"].mean() for d in (1, 5, 10)]
    np.testing.assert_allclose(hggtopk.get_ydata(), means)
    of_bytes = [line for line in shares.get_lines() if len(line.get_xdata()) == 3]
    for line in of_bytes:  # both compressors, and the grey line of an all-gather
        np.testing.assert_allclose(line.get_ydata(), [2, 10, 20])
    assert len(of_bytes) == 3


def test_the_page_holds_everything_it_shows(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(style._RC, "savefig.dpi", 40)
    folder = Fake({"digits_resnet18": [ARMS[1], ARMS[-1]]}, seeds=2).write(tmp_path / "runs")
    assert main(["plot", str(folder), "--report", "--output", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page/report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == len(NAMES)
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("<tr") == 1 + 2 * 2
    assert "topk (feedback none) 1%" in page
    written = sorted(p.name for p in (tmp_path / "page").iterdir())
    assert written == sorted([*(f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")), "report.html"])
    assert capsys.readouterr().out.count(str(tmp_path)) == len(NAMES) + 1


def test_the_page_says_what_could_not_be_drawn_and_single_figures_stop(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(style._RC, "savefig.dpi", 40)
    Fake({"digits_resnet18": [None]}, seeds=1).write(tmp_path)
    assert main(["plot", str(tmp_path), "--report"]) == 0
    page = (tmp_path / "plots/report.html").read_text()
    assert page.count("Not drawn: no run") == 2
    assert page.count("data:image/svg+xml;base64,") == len(NAMES) - 2
    for flag, message in (("--compare-comm", "of several processes"), ("--compare-sparse", "with a compressor")):
        assert main(["plot", str(tmp_path), flag]) == 2
        assert f"error: no run {message}; make one: python -m lowbit train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--summary"], r"no finished run in it or below it; make one: python -m lowbit train"),
        ([], r"nothing to draw: give --plot-steps, --summary, --compare-comm, --compare-sparse or --report"),
    ],
)
def test_nothing_to_draw_says_what_to_do(arguments, message, tmp_path, capsys):
    assert main(["plot", str(tmp_path), *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
