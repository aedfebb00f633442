"""The exchange study from end to end on runs with known numbers: what was put in comes out, and nothing else."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from drawn_twice import assert_same_bytes, drawn, said
from fake_exchanges import ARMS, DENSE_BYTES, Fake
from fake_runs import aggregated
from matplotlib.backends.backend_agg import RendererAgg

from lowbit import cost
from lowbit.analysis import design, exchanges, figures, runs, style, summary, tables, timings, verdicts
from lowbit.analysis.figures.exchange import _panels
from lowbit.errors import UserError
from lowbit.exchange_spec import Exchange

EXCHANGING = ("compress", "communicate", "decompress")
NAMES = figures.available("exchange")
TASK = "digits_parallel"


@pytest.fixture
def judged(aggregate_fake):
    """Fake runs to verdicts, by the last part of their id."""

    def judge(**settings):
        folder = aggregate_fake(Fake(**settings))
        return {v.id.rpartition("/")[2]: v for v in verdicts.read(folder / "verdicts/exchange.json")}

    return judge


def content_of(folder) -> tables.Tables:
    return tables.load("exchange", folder / "tables", folder / "verdicts")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    effects = {"accuracy": {"topk2": -9.0, "noop": 4.0}, "exposed": {"hggtopk_waits": 6.0}}
    return content_of(aggregated(tmp_path_factory.mktemp("exchange"), Fake(**effects)))


def test_equal_arms_are_no_finding(judged):
    records = judged(controls=dict.fromkeys(list(ARMS)[1:], "allreduce"), noise=0.0)
    outcomes = {key: record.verdict for key, record in records.items()}
    assert outcomes["topk_accuracy_at_0.01"] == outcomes["hggtopk_as_fast_at_0.05"] == "supported", "equal is within"
    assert outcomes["topk_needs_its_residual"] == "inconclusive"
    assert outcomes["hggtopk_sooner"] == "inconclusive"
    assert records["topk_needs_its_residual"].estimate == 0


def test_effects_that_were_put_in_are_found(judged):
    effects = {"topk2": -9.0, "hggtopk-density0.01": -3.0}
    slow = {"topk-density0.05": 1.5, "hggtopk-density0.05": 1.5}
    records = judged(
        accuracy=effects, compress=slow, exposed={"hggtopk_waits": 8.0, "hggtopk-density0.05": 1.0}, controls={}
    )
    outcomes = {key: record.verdict for key, record in records.items()}
    assert outcomes["topk_needs_its_residual"] == "supported"
    assert outcomes["hggtopk_accuracy_at_0.01"] == "refuted"
    assert records["hggtopk_accuracy_at_0.01"].estimate == pytest.approx(-3, abs=0.3)
    assert outcomes["hggtopk_accuracy_at_0.05"] == outcomes["topk_accuracy_at_0.01"] == "supported"
    assert outcomes["hggtopk_keeps_95_percent_at_0.01"] == "supported", "3 points of 93 are 97 %"
    assert outcomes["topk_overhead"] == "supported"
    assert outcomes["hggtopk_overhead"] == "refuted"
    assert records["hggtopk_overhead"].estimate == pytest.approx(100 * 1.65 / 12.5, rel=0.02)
    assert records["hggtopk_overhead"].bound == "at most 5 % of a step"


def test_bytes_with_indices_are_twice_the_density(judged):
    record = judged()["volume_at_0.05"]
    assert (record.verdict, record.estimate, record.interval) == ("refuted", 10.0, (10.0, 10.0))
    assert "2 ranks, density 0.05, 5.00 % of entries sent" in record.note
    assert "10 % of dense, 95 % interval [10, 10]" in summary.text([record])


def test_times_of_arms_decide_claims_about_them(judged):
    records = judged(exposed={"hggtopk-density0.01": 4.0, "hggtopk_waits": 8.0}, controls={})
    outcomes = {key: record.verdict for key, record in records.items()}
    assert outcomes["hggtopk_sooner"] == "refuted", "two of 13.5 ms more, in as many steps"
    assert records["hggtopk_sooner"].estimate == pytest.approx(100 * 2 / 13.5, abs=2)
    assert outcomes["hggtopk_sooner_100mbit"] == "supported"
    assert outcomes["pipeline_halves_overhead"] == "supported"
    assert records["pipeline_halves_overhead"].estimate == pytest.approx(75, abs=3), "2 ms exposed instead of 8"
    assert "computed, not measured" in records["hggtopk_sooner_100mbit"].note
    assert "computed" not in records["hggtopk_sooner"].note


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"timing/digits_parallel/summary\.json: missing; .*snakemake"),
        ({"seconds": {"allreduce": {}}}, r"has no times of allreduce, seed 0; delete it"),
    ],
)
def test_arms_that_were_not_timed_are_named(given, message, tmp_path):
    plan = design.parse(Fake(arms=("allreduce",), treatment="allreduce", controls={}).write(tmp_path))
    path = tmp_path / "timing/digits_parallel/summary.json"
    path.write_text(json.dumps(given)) if given else path.unlink()
    with pytest.raises(UserError, match=message):
        list(timings.side_by_side(runs.read_study(tmp_path, plan), tmp_path))


def test_a_slow_link_is_where_it_pays(study):
    times = study.comparisons.set_index(["arm", "measure"])["mean"]
    assert times["hggtopk-density0.01", "seconds_to_reference_100mbit"] < -0.2
    assert abs(times["hggtopk-density0.01", "seconds_to_reference"]) < 0.1


def test_all_arms_above_the_reference_at_once_are_no_finding(judged):
    record = judged(speed={"allreduce": 0.01, "hggtopk-density0.05": 0.25}, controls={})["hggtopk_as_fast_at_0.05"]
    assert record.verdict == "inconclusive"


def test_a_time_over_a_link_is_steps_times_a_step_over_it(study):
    links = study.further["links"].merge(study.runs[["arm", "seed", "steps_to_reference"]], on=["arm", "seed"])
    assert np.allclose(links["seconds_to_reference"], links["steps_to_reference"] * links["step_seconds"])
    assert links.groupby("link")["seconds_to_reference"].mean().nunique() == 7


def test_what_a_pipeline_saves_is_told_of_those_that_have_one(study):
    saved = study.runs.groupby("arm")["pipeline_saves_percent"].mean()
    assert saved["hggtopk-density0.05"] == pytest.approx(66.7, abs=3), "2 ms exposed instead of 6"
    assert saved[["hggtopk_waits", "allreduce", "topk-density0.05"]].isna().all()


def test_exposed_time_is_against_a_step_of_as_many_processes():
    columns = {"task": "t", "seed": 0, "test_accuracy_percent": 90.0, "density": 0.1, "pipeline": 1}
    columns |= {"metric": "accuracy", "test_perplexity": np.nan}
    rows = [
        ("noop", "noop", 2, 0.010),
        ("noop4", "noop", 4, 0.030),
        ("a", "sparse", 4, 0.032),
        ("b", "sparse", 8, 0.05),
    ]
    table = pd.DataFrame(
        [
            {**columns, "arm": arm, "method": m, "ranks": n, "step_seconds": s, "further_settings": arm}
            for arm, m, n, s in rows
        ]
    )
    exposed = exchanges.with_partners(table, "a").set_index("arm")["exposed_seconds"]
    assert exposed["a"] == pytest.approx(0.002)
    assert np.isnan(exposed["b"])
    twice = pd.concat([table, table[table["arm"] == "noop4"].assign(arm="noop5")])
    assert exchanges.with_partners(twice, "a")["exposed_seconds"].isna().all(), "which of two is not for us to say"


def test_lines_of_a_figure_can_be_told_apart(study):
    kinds = ["sidco", "redsync", "gaussian", "randomk", "adacomp", "redsynctrim", "dgcsampling", "threshold_reuse"]
    varied = [("scheme", "gtopk"), ("scheme", "oktopk"), ("granularity", "bucket")]
    varied += [("ranks_per_node", 2), ("warmup_stages", 3), ("feedback", "momentum_correction")]
    one = study.runs[study.runs["arm"] == "topk-density0.05"].iloc[[0]]
    more = [one.assign(arm=kind, compressor=kind, further_settings=kind) for kind in kinds]
    more += [one.assign(arm=f"a{value}", further_settings=str(value), **{key: value}) for key, value in varied]
    more += [study.runs[study.runs["arm"] == "bf16"].iloc[[0]].assign(arm="bf16_too", further_settings="other")]
    content = replace(study, runs=pd.concat([study.runs, *more], ignore_index=True))
    looks = _panels.looks(content)
    assert {"bf16, bf16", "bf16, bf16_too"} <= set(looks)
    assert {"topk", "topk, nodes of 2", "topk, warm-up", "topk, momentum correction"} <= set(looks)
    assert len({str(look) for look in looks.values()}) == len(looks)


def test_a_run_that_never_arrives_decides_nothing(judged):
    record = judged(speed={"hggtopk-density0.01": 60.0}, controls={})["hggtopk_sooner_100mbit"]
    assert record.verdict == "inconclusive"
    assert "never reached it in 4 of 4 runs" in record.note


def test_one_seed_settles_nothing_and_a_missing_arm_is_not_measured(judged):
    arms = tuple(arm for arm in ARMS if arm not in ("topk2", "topk-density0.05", "noop"))
    records = judged(tasks={TASK: 1}, arms=arms)
    claims = {k: v.verdict for k, v in records.items() if not v.of_control}
    assert set(claims.values()) == {"inconclusive", "not measured here"}
    missing = {key for key, verdict in claims.items() if verdict == "not measured here"}
    assert missing == {"topk_needs_its_residual", "topk_accuracy_at_0.05", "topk_as_fast_at_0.05", "topk_overhead",
                       "pipeline_halves_overhead"}  # fmt: skip


def test_a_control_that_fails_withholds_every_claim(judged):
    records = judged(broken=((TASK, "hggtopk_waits", 2),))
    assert records["control_hggtopk_waits"].verdict == "refuted"
    assert {v.verdict for v in records.values() if not v.of_control} == {"withheld"}
    assert "same entries" in records["control_none"].source


def test_the_arm_that_exchanges_nothing_is_a_time_and_no_result(study):
    runs = study.runs.set_index("arm")
    assert runs.loc["noop", ["exposed_seconds", "kept_percent", "seconds_to_reference"]].isna().all().all()
    assert (runs.loc["noop", "wire_bytes"] == 0).all()
    assert np.allclose(runs.loc["allreduce", "exposed_seconds"], 0.002, atol=0.0006)
    assert "noop" not in set(study.further["links"]["arm"]) | set(study.further["exposed"]["arm"])
    words = said(drawn("exchange", "accuracy_by_density", study)) + said(drawn("exchange", "time_to_accuracy", study))
    assert "noop" not in words


def test_a_step_over_a_link_is_the_step_here_and_its_bytes(study):
    links = study.further["links"].set_index(["arm", "link", "seed"])["step_seconds"]
    here, slow = (links["topk-density0.1", link, 0] for link in ("loopback", "100 Mb/s"))
    assert slow - here == pytest.approx(4 * 50e-6 + 8 * 0.2 * DENSE_BYTES / 2 / 1e8 * (1 + 99 / 1448))
    assert len(study.further["links"]) == (len(ARMS) - 1) * 4 * 7


@pytest.mark.parametrize(("scheme", "ranks"), [("gtopk", 4), ("gtopk", 8), ("oktopk", 4), ("allgather", 8)])
def test_a_step_over_a_link_takes_as_long_as_the_cost_model_says(scheme, ranks):
    volume, rate = cost.volume(scheme, ranks, 11_000_000, 0.01), 1e9
    settings = Exchange(ranks=ranks, scheme={"name": scheme}, density=0.01).model_dump(mode="json")
    told = {"steps": 10, "parameters": 11_000_000, "entries_sent": 0.01, "messages": volume.messages}
    told |= {"wire_bytes": 10 * ranks * volume.sent, "bytes_in_row": 10 * volume.in_row, "dense_wire_bytes": 1e9}
    told["seconds"] = dict.fromkeys(cost.PARTS, 0.02)
    row = exchanges.columns(SimpleNamespace(spec={"exchange": settings}, summary={"exchange": told}), 100.0)
    link = cost.Link(rate_bits=rate, latency_seconds=exchanges.LATENCY_SECONDS)
    step = 0.02 + cost.exchange_seconds(volume, link)
    assert exchanges.step_seconds(row, rate) == pytest.approx(step)
    assert row["seconds_to_reference_1gbit"] == pytest.approx(100 * step)


def test_what_hooks_of_pytorch_do_not_tell_is_not_0(study):
    runs = study.runs.groupby("arm")[["overhead_percent", *(f"{p}_seconds" for p in EXCHANGING)]].first()
    assert runs.loc["bf16"].isna().all()
    assert (runs.loc["noop"] == 0).all(), "nothing is compressed and nothing sent"
    assert (runs.loc["allreduce"].drop("communicate_seconds") == 0).all(), "nothing is compressed"
    assert np.isnan(runs.loc["allreduce", "communicate_seconds"])
    assert (runs.drop(["bf16", "noop", "allreduce"]) > 0).all().all()
    compared = study.comparisons[study.comparisons["measure"] == "overhead_percent"].set_index("arm")
    assert compared.loc["bf16", "n"] == 0
    assert compared.loc["topk-density0.05", "n"] == 4
    panel = drawn("exchange", "step_breakdown", study).axes[1]
    silent = {study.arms_of(TASK)[round(t.xy[1])] for t in panel.texts if t.get_text() == "not told"}
    assert silent == {"allreduce", "bf16"}


def test_an_all_gather_crosses_dense_at_one_over_the_processes(study):
    volumes = study.further["volumes"].set_index(["scheme", "density", "ranks"])["wire_percent"]
    assert volumes["allgather", 0.05, 2] == pytest.approx(10)
    assert volumes["allgather", 0.05, 16] < 100 < volumes["allgather", 0.05, 32]
    assert volumes["oktopk", 0.05, 256] == pytest.approx(10, rel=0.02)


def test_a_study_of_one_process_has_no_such_columns(finished):
    table = tables.read(finished / "tables/softmax_runs.csv")
    assert not {"method", "wire_bytes", "seconds_to_reference"} & set(table.columns)
    measures = set(tables.read(finished / "tables/softmax_comparisons.csv")["measure"])
    assert not measures & {"step_seconds", *exchanges.SECONDS_TO_REFERENCE}


def test_names_of_arms_are_whole_in_the_picture(study, tmp_path, monkeypatch):
    monkeypatch.setitem(style._RC, "savefig.dpi", 40)  # far from the screen's: letters have other widths
    with style.applied():
        figure = figures.drawer("exchange", "step_breakdown")(study)
        style.save(figure, tmp_path / "a.png", tmp_path / "a.svg")
        figure.set_dpi(40)
        left = min(axes.get_tightbbox(RendererAgg(600, 300, 40)).x0 for axes in figure.axes)
    assert left >= 0


@pytest.mark.parametrize("name", NAMES)
def test_an_exchange_figure_has_the_same_bytes_every_time(name, study, tmp_path, monkeypatch):
    assert_same_bytes("exchange", name, study, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_an_exchange_figure_says_n_and_hardware(name, study):
    words = said(drawn("exchange", name, study))
    assert "n = 4 seeds per arm" in words
    assert "Intel(R) Xeon(R)" in words
    assert len(figures.description("exchange", name)) > 100


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text task beside one of images: half a point less accuracy with HGG-TopK, 3 more with top-k."""
    effects = {f"hggtopk-density{d}": -0.5 for d in (0.01, 0.05)} | {"topk-density0.01": 3.0, "topk2": -9.0}
    tasks = {TASK: 4, "wikitext2_gpt": 4}
    fake = Fake(tasks=tasks, accuracy=effects, noise=0.02, speed={"topk-density0.05": 1.2}, controls={})
    return content_of(aggregated(tmp_path_factory.mktemp("text"), fake))


def test_text_is_judged_by_perplexity(text):
    found = {v["id"].removeprefix("exchange/"): v for v in text.verdicts}
    of_images, of_text = ({key.partition("/")[2] for key in found if key.startswith(t)} for t in text.tasks)
    assert {key.replace("_perplexity_", "_accuracy_") for key in of_text} == of_images
    assert not [key for key in of_text if "accuracy" in key]
    assert found[f"{TASK}/hggtopk_accuracy_at_0.01"]["verdict"] == "supported", "half a point"
    worse = found["wikitext2_gpt/hggtopk_perplexity_at_0.01"]
    assert (worse["verdict"], worse["unit"], worse["threshold"]) == ("refuted", "%", 1.0)
    runs = {arm: text.runs_of("wikitext2_gpt", arm)["test_perplexity"].to_numpy() for arm in text.arms}
    logarithms = np.log(runs["hggtopk-density0.01"] / runs["allreduce"])
    assert worse["estimate"] == pytest.approx(100 * np.expm1(logarithms.mean()))
    assert 1.5 < worse["estimate"] < 3
    assert "allreduce is better: perplexity +2." in worse["note"]
    assert found["wikitext2_gpt/hggtopk_perplexity_at_0.1"]["verdict"] == "supported"
    better = found["wikitext2_gpt/topk_perplexity_at_0.01"]
    assert better["verdict"] == "refuted"
    assert "topk-density0.01 is better: perplexity -1" in better["note"]
    assert found["wikitext2_gpt/topk_needs_its_residual"]["verdict"] == "supported"
    kept = found["wikitext2_gpt/hggtopk_keeps_95_percent_at_0.01"]
    ratio = runs["allreduce"] / runs["hggtopk-density0.01"]
    assert kept["estimate"] == pytest.approx(100 * ratio.mean())
    assert kept["verdict"] == "supported"


def test_a_text_s_time_is_to_a_perplexity_and_an_image_s_to_an_accuracy(text):
    images, words = (text.runs[text.runs["task"] == task] for task in text.tasks)
    assert images["reference_perplexity"].isna().all()
    assert words["reference_accuracy_percent"].isna().all()
    dense = words[words["arm"] == "allreduce"]
    reference = 1.1 * np.exp(dense["best_validation_loss"].mean())
    assert words["reference_perplexity"].to_numpy() == pytest.approx(reference)
    curve = text.curves[(text.curves["kind"] == "evaluation") & (text.curves["task"] == "wikitext2_gpt")]
    for _, run in words.iterrows():
        own = curve[(curve["arm"] == run["arm"]) & (curve["seed"] == run["seed"])]
        losses = own["loss"].to_numpy()
        if run["censored"] == "no":
            assert np.interp(run["steps_to_reference"], own["step"], losses) == pytest.approx(np.log(reference))
        else:
            assert losses.min() > np.log(reference)
    verdict = next(v for v in text.verdicts if v["id"] == "exchange/wikitext2_gpt/topk_as_fast_at_0.05")
    assert (verdict["verdict"], "1.1 times the baseline's best validation perplexity" in verdict["measure"]) == (
        "refuted",
        True,
    )
    assert verdict["estimate"] == pytest.approx(20, abs=4)


def test_figures_show_the_perplexity_of_text(text):
    figure = drawn("exchange", "accuracy_by_density", text)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        *("test accuracy (%)", "minus allreduce (points)", "test perplexity", "minus allreduce (%)")
    ]
    topk2 = text.runs_of("wikitext2_gpt", "topk2")["test_perplexity"]
    assert any(np.array_equal(np.sort(line.get_ydata()), np.sort(topk2)) for line in figure.axes[2].get_lines())
    rows = text.comparisons[(text.comparisons["task"] == "wikitext2_gpt") & (text.comparisons["arm"] == "bf16")]
    mean = rows.loc[rows["measure"] == "test_perplexity", "mean"].iloc[0]
    points = [line for line in figure.axes[3].get_lines() if len(line.get_ydata()) == 1]
    assert any(np.allclose(line.get_ydata(), 100 * np.expm1(mean)) for line in points)
    assert "within 1 point or 1 %;" in said(figure)
    assert "Reference: validation accuracy" in (words := said(drawn("exchange", "time_to_accuracy", text)))
    assert ", perplexity " in words


@pytest.fixture(scope="module")
def poor(tmp_path_factory):
    """Two tasks, one seed, few arms, and nothing to take exposed time from."""
    few = {"arms": ("allreduce", "topk-density0.01", "topk2"), "treatment": "topk-density0.01", "controls": {}}
    fake = Fake(**few, tasks={TASK: 1, "text_gpt": 1}, accuracy={"topk2": -60.0})
    return content_of(aggregated(tmp_path_factory.mktemp("poor"), fake))


@pytest.mark.parametrize("name", NAMES)
def test_an_exchange_figure_is_drawn_of_a_smaller_study(name, poor):
    figure = drawn("exchange", name, poor)
    figure.canvas.draw()
    assert len(figure.axes) >= 4


def test_accuracy_stands_at_its_density(study):
    axes = drawn("exchange", "accuracy_by_density", study).axes[0]
    words = [text.get_text() for text in axes.get_xticklabels()]
    assert words == ["0.01", "0.05", "0.1", "none", "bf16"]
    topk2 = study.runs_of(TASK, "topk2")["test_accuracy_percent"]
    drawn_there = [line for line in axes.get_lines() if np.array_equal(np.sort(line.get_ydata()), np.sort(topk2))]
    assert len(drawn_there) == 1
    assert abs(drawn_there[0].get_xdata()[0]) < 0.5


def test_numbers_beyond_the_axis_are_two_numbers(tmp_path):
    worse = {"topk-density0.05": -9.0, "randomkec": -8.0}
    fake = Fake(arms=("allreduce", *worse), treatment="randomkec", controls={}, accuracy=worse)
    figure = drawn("exchange", "accuracy_by_density", content_of(aggregated(tmp_path, fake)))
    axes = figure.axes[1]
    figure.draw_without_rendering()
    lower, upper = (t.get_window_extent() for t in axes.texts if t.get_text().startswith("-"))
    assert lower.y1 <= upper.y0, "side by side they would read as one"


def test_parts_of_a_step_add_up_to_it(study):
    axes = drawn("exchange", "step_breakdown", study).axes[0]
    ends: dict[float, float] = {}
    for bar in axes.patches:
        middle = round(bar.get_y() + bar.get_height() / 2)
        ends[middle] = max(ends.get(middle, 0.0), bar.get_x() + bar.get_width())
    steps = study.runs.groupby("arm", sort=False)["step_seconds"].mean()
    for place, arm in enumerate(study.arms_of(TASK)):
        assert ends[place] == pytest.approx(1000 * steps[arm])


def test_links_and_crossover_are_those_of_the_tables(study):
    measured, links, workers = drawn("exchange", "bytes_and_bandwidth", study).axes[:3]
    widths = [bar.get_width() for bar in measured.patches]
    assert widths == pytest.approx([100, 100, 50, 2, 10, 20, 2, 10, 20, 10, 2, 10])
    rows = study.further["links"]
    mean = (
        rows[(rows["arm"] == "bf16") & (rows["link"] != "loopback")].groupby("bits_per_second")["step_seconds"].mean()
    )
    assert any(np.allclose(line.get_ydata(), 1000 * mean) for line in links.get_lines() if len(line.get_ydata()) == 6)
    crossings = [float(line.get_xdata()[0]) for line in workers.get_lines() if line.get_marker() == "X"]
    assert crossings == pytest.approx([100, 20, 10])
