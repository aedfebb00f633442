"""Tables and verdicts of the estimator study, from runs with known content."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest

from lowbit.analysis import estimate_verdicts, estimates
from lowbit.analysis.design import Design
from lowbit.analysis.estimate_claims import CLAIMS, EstimateClaim
from lowbit.analysis.estimate_comparisons import (
    chosen_variants,
    comparisons_table,
    cross_fitted,
    cross_fitted_rows,
    seed_means,
)
from lowbit.analysis.statistics import paired
from lowbit.errors import UserError

AXES = {"problem.dim": [4, 8], "problem.start_from": ["raw", "pretrained"]}
SEEDS = (0, 1, 2)


def claim(**changes):
    settings = {
        "key": "k", "text": "t", "source": "s", "task": "toy", "treatment": "cdg", "baseline": "nes", "rule": "more",
        "figure": "f",
    }  # fmt: skip
    return EstimateClaim(**settings | changes)


def write_run(root, arm, axes, decrease):
    """A run folder whose held-out decrease at (seed, start, variant, batch) is what a function says; the loss is 2."""
    folder = root / "estimator" / "toy" / arm
    folder.mkdir(parents=True)
    spec = {
        "study": "estimator", "task": "toy", "arm": arm, "seed": 0, "estimator": {"name": arm},
        "surrogate": {"name": "window"}, "problem": {"name": "teacher_student"},
        "rates": {"low": 1e-2, "high": 1.0, "points": 3},
    }  # fmt: skip
    lines = []
    for seed, dim in itertools.product(SEEDS, AXES["problem.dim"]):
        for start in AXES["problem.start_from"]:
            place = {"seed": seed, "problem.dim": dim, "problem.start_from": start}
            lines.append({"type": "reference", "point": place, "ceiling": {"all": 0.9}, "norm": 1.0})
            for variant in axes.get("estimator.epsilon", [None]):
                along = {"point": place | ({"estimator.epsilon": variant} if variant else {})}
                for batch in (0, 1):
                    value = decrease(seed, start, variant, batch)
                    lines.append(
                        {"type": "estimate", **along, "batch": batch, "loss": 2.0, "decrease": value, "rate": 0.1,
                         "at_grid_end": "low" if value <= 0 else "", "length": 0.1, "decrease_held_out": value,
                         "loss_held_out": 2.0, "control_held_out": 0.5 + 0.01 * seed if dim == 8 else -0.1,
                         "curve": [0.0, value, 0.0], "forward_evaluations": 10,
                         "scan_evaluations": 44, "seconds": 1.0,
                         "zeros": 0.0}
                    )  # fmt: skip
                    close = {"cosine": 0.5, "sign_agreement": 0.6, "weighted_agreement": 0.7, "zero_fraction": 0.0}
                    lines.append({"type": "closeness", **along, "batch": batch, "tensor": "all", **close})
                spread = {"bias": 0.1, "variance": None, "rmse": 0.1, "gradient_mean": 1.0, "repetitions": 2}
                lines.append({"type": "spread", **along, "tensor": "all", **spread})
    summary = {"machine": {"processor": "a processor", "threads": 1, "gpu": None}}
    for name, content in (("spec.json", json.dumps(spec)), ("summary.json", json.dumps(summary))):
        (folder / name).write_text(content)
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def design():
    arms = {"ste": SEEDS, "cdg": SEEDS, "nes": SEEDS}
    return Design(study="estimator", baseline="ste", treatment="ste", controls={}, runs={"toy": arms})


@pytest.fixture
def finished(tmp_path, design):
    """cdg lowers the loss by 20 % with epsilon 0.1 and by 2 % with 1, nes by 10 % where raw and not at all after."""
    epsilons = {"estimator.epsilon": [1.0, 0.1]}
    write_run(tmp_path, "ste", {}, lambda seed, *_: 0.3 + 0.002 * seed)
    write_run(tmp_path, "cdg", epsilons, lambda seed, s, v, b: (0.4 if v == 0.1 else 0.04) + 0.002 * seed - 0.01 * b)
    write_run(tmp_path, "nes", {}, lambda seed, s, *_: 0.2 + 0.006 * seed if s == "raw" else -1e-4 * (1 + 0.002 * seed))
    return list(estimates.read_study(tmp_path, design))


def test_estimates_carry_their_axes_and_percent(finished, design):
    table = estimates.estimates_table(finished, design)
    assert len(table) == 3 * (4 + 8 + 4) * 2
    row = table[(table["arm"] == "cdg") & (table["seed"] == 0) & (table["variant"] == "epsilon 0.1")].iloc[0]
    assert (row["dim"], row["start_from"], row["point"]) == (4, "raw", "dim 4, raw")
    assert row["percent_held_out"] == pytest.approx(20.0)
    assert row["cosine"] == 0.5
    assert row["hardware"] == "cpu: a processor, 1 thread"


def test_curves_are_means_over_batches_and_seeds(finished, design):
    curves = estimates.curves_table(finished, design)
    some = curves[(curves["arm"] == "cdg") & (curves["point"] == "dim 8, raw") & (curves["variant"] == "epsilon 0.1")]
    assert some["rate"].tolist() == pytest.approx([0.01, 0.1, 1.0])
    values = [50 * (0.4 - 0.005 + 0.002 * seed) for seed in SEEDS]
    assert some["mean"].tolist() == pytest.approx([0, np.mean(values), 0])
    half = 4.302653 * np.std(values, ddof=1) / math.sqrt(3)  # t quantile for 2 degrees of freedom
    assert some["high"].iloc[1] - some["mean"].iloc[1] == pytest.approx(half, rel=1e-5)


def test_the_variant_that_does_best_on_held_out_batches_is_chosen(finished, design):
    means = seed_means(estimates.estimates_table(finished, design))
    chosen = chosen_variants(means)
    assert set(chosen.loc[chosen["arm"] == "cdg", "variant"]) == {"epsilon 0.1"}
    assert len(chosen) == 4 * 3


def test_each_batch_is_measured_with_what_is_best_on_the_others():
    values = {("a", 0): 9.0, ("a", 1): 1.0, ("b", 0): 2.0, ("b", 1): 5.0}
    rows = [
        {"task": "t", "point": "", "arm": "x", "variant": variant, "seed": 0, "batch": batch, "percent_held_out": value,
         "cosine": 0.0, "percent_decrease": 0.0, "percent_control": 1.0, "forward_evaluations": 1,
         "scan_evaluations": 0, "seconds": 0.0, "zeros": 0.0, "at_grid_end": "", "decrease_held_out": value}
        for (variant, batch), value in values.items()
    ]  # fmt: skip
    fitted = cross_fitted(pd.DataFrame(rows))
    # Batch 0 takes b, best on batch 1, and batch 1 takes a: the best of each batch on itself would be 9 and 5.
    assert fitted["percent_held_out"].tolist() == [(2.0 + 1.0) / 2]
    assert fitted["batches"].tolist() == [2]
    assert cross_fitted(pd.DataFrame(rows[::2]))["percent_held_out"].tolist() == [9.0]


def test_of_a_single_batch_each_seed_is_measured_with_what_is_best_on_the_others():
    values = {("a", 0): 9.0, ("a", 1): 1.0, ("b", 0): 2.0, ("b", 1): 5.0}
    rows = [
        {"task": "t", "point": "", "arm": "x", "variant": variant, "seed": seed, "batch": 0, "percent_held_out": value}
        for (variant, seed), value in values.items()
    ]
    assert cross_fitted_rows(pd.DataFrame(rows))["percent_held_out"].tolist() == [2.0, 1.0]


def test_a_note_names_best_steps_at_both_ends_of_the_grid_and_the_cost_of_the_scan(finished, design):
    table = estimates.estimates_table(finished, design)
    here = table[(table["point"] == "dim 8, raw") & (table["arm"] != "ste")]
    here = here.assign(at_grid_end=np.where(here["arm"] == "cdg", "high", "low"))
    note = estimate_verdicts._note(claim(), estimate_verdicts._sides(claim(), here))
    assert "54 evaluations (44 of them to scan steps), best step at the grid's upper end on 100 %; nes:" in note
    assert note.endswith("best step at the grid's lower end on 100 %")


def test_comparisons_are_paired_by_seed(finished, design):
    table = comparisons_table(estimates.estimates_table(finished, design), design)
    row = table[
        (table["arm"] == "cdg") & (table["chosen"] == 1) & (table["point"] == "dim 4, raw")
        & (table["measure"] == "percent_held_out")
    ].iloc[0]  # fmt: skip
    assert row["minus_mean"] == pytest.approx(50 * (0.4 - 0.005 - 0.3))
    assert row["minus_high_95"] - row["minus_low_95"] == pytest.approx(0, abs=1e-9)  # the same wobble in both arms
    assert row["minus_n"] == 3


def test_verdicts_follow_from_the_runs(finished, design):
    found = {v.id: v for v in estimate_verdicts.judge(design, estimates.estimates_table(finished, design))}
    raw = found["estimator/toy: dim 8, raw/cdg_beats_nes"]
    assert raw.verdict == "supported"
    assert raw.estimate == pytest.approx(50 * (0.4 - 0.005 - 0.2 - 0.004))
    assert raw.n == 3
    after = found["estimator/toy: dim 8, pretrained/nes_does_not_descend_after_pretraining"]
    assert after.verdict == "supported"
    assert "grid's lower end on 100 %" in after.note
    withheld = found["estimator/toy: dim 4, pretrained/nes_does_not_descend_after_pretraining"]
    assert withheld.verdict == "withheld", "where the reference gradient does not descend, nothing can be said"
    assert "the reference gradient itself lowers 0 of 6 held-out batches" in withheld.note
    assert "estimator/toy: dim 8, raw/nes_does_not_descend_after_pretraining" not in found
    assert found["estimator/toy: dim 4, raw/cdg_beats_nes"].verdict == "withheld"
    missing = found["estimator/budget/dg_is_no_upper_bound"]
    assert missing.verdict == "not measured here"
    assert missing.estimate is None


@pytest.mark.parametrize(
    ("rule", "values", "verdict"),
    [
        ("more", [5.0, 5.1, 5.2], "supported"),
        ("more", [-5.0, -5.1, -5.2], "refuted"),
        ("more", [0.0, 0.1, -0.1], "refuted"),
        ("more", [0.2, 0.21, 0.22], "refuted"),  # surely more than zero, and surely too little to count
        ("more", [9.0, -3.0, 1.0], "inconclusive"),
        ("more", [5.0], "inconclusive"),
        ("not_more", [5.0, 5.1, 5.2], "refuted"),
        ("not_more", [-5.0, -5.1, -5.2], "supported"),
        ("not_more", [0.0, 0.1, -0.1], "supported"),
        ("not_more", [9.0, -3.0, 1.0], "inconclusive"),
        ("not_more", [0.0], "inconclusive"),
    ],
)
def test_rules(rule, values, verdict):
    assert estimate_verdicts.decide(claim(rule=rule), paired(np.array(values)))[0] == verdict


@pytest.mark.parametrize(
    ("gain_here", "gain_there", "verdict"),
    [(5.0, 5.2, "supported"), (9.0, 5.0, "refuted"), (0.1, -0.2, "withheld"), (-3.0, -1.0, "withheld")],
)
def test_gains_are_compared_where_there_is_one(design, gain_here, gain_there, verdict):
    """A gain is relative to what the single step leaves: half of the loss here, a fifth there, not half in both."""
    rows = [
        {"task": task, "point": "", "arm": arm, "variant": "", "seed": seed, "batch": batch, "loss_held_out": 1.0,
         "loss": 1.0, "decrease": 0.1, "decrease_held_out": 1 - left * (1 + 0.01 * seed * batch) * kept,
         "percent_held_out": 1.0, "cosine": 0.0, "percent_decrease": 0.0, "percent_control": 1.0,
         "forward_evaluations": 1, "scan_evaluations": 0, "seconds": 0.0, "zeros": 0.0, "at_grid_end": "",
         "hardware": "a processor"}
        for task, left, gain in (("here", 0.5, gain_here), ("there", 0.2, gain_there))
        for arm, kept in (("one", 1.0), ("many", 1 - gain / 100))
        for seed in SEEDS
        for batch in (0, 1)
    ]  # fmt: skip
    entry = claim(
        task="here", contrast="there", treatment="many", baseline="one", measure="gain_held_out", rule="not_more"
    )
    found = estimate_verdicts._at_point(design, entry, "", pd.DataFrame(rows))
    assert found.verdict == verdict
    assert found.estimate == pytest.approx(gain_here - gain_there)


def test_variants_that_a_claim_rules_out_are_never_chosen(finished, design):
    table = estimates.estimates_table(finished, design)
    here = table[table["point"] == "dim 4, raw"]
    free, bound = (estimate_verdicts._sides(claim(without=names), here).treatment for names in ((), ("epsilon 0.1",)))
    assert free["percent_held_out"].mean() > 15
    assert bound["percent_held_out"].mean() < 3


def test_claims_are_of_figures_and_arms_that_the_default_study_has():
    from lowbit import catalog
    from lowbit.config import load

    study = load("workflow_config.yaml").studies["estimator"]
    for entry in CLAIMS:
        assert entry.task in study.probes
        assert entry.treatment in study.arms
        assert entry.baseline is None or entry.baseline in study.arms
        assert not entry.contrast or entry.contrast in study.probes
        assert entry.figure in catalog.available("analysis/figures/estimator")


def test_a_damaged_run_is_named(tmp_path, design):
    with pytest.raises(UserError, match="toy/ste: not a finished run"):
        list(estimates.read_study(tmp_path, design))


def test_no_descents_leave_an_empty_table(finished, design):
    table = estimates.descents_table(finished, design)
    assert isinstance(table, pd.DataFrame)
    assert table.empty
