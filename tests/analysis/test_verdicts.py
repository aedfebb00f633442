"""Verdicts from end to end: known effects in, the right words out."""

import json
import math
from argparse import Namespace

import pandas as pd
import pytest
from fake_runs import LN2, Fake

from lowbit.analysis import controls, design, runs, tables, verdicts
from lowbit.analysis.claims import CLAIMS
from lowbit.commands import aggregate

CLAIM = {claim.key: claim for claim in CLAIMS["softmax"]}
PAIR = {"tasks": {"digits_vit": 4}, "arms": ("standard", "base2"), "steps": 240}


@pytest.fixture
def judged(aggregate_fake):
    """Fake runs to verdicts by the last part of their id; one task."""

    def judge(**settings):
        folder = aggregate_fake(Fake(**{**PAIR, **settings}))
        records = verdicts.read(folder / "verdicts/softmax.json")
        return {record.id.rpartition("/")[2]: record for record in records}

    return judge


def row(estimate: float, half_90: float, half_95: float, **more) -> pd.Series:
    """A row of the comparisons with a symmetric interval."""
    ends = {"low_90": estimate - half_90, "high_90": estimate + half_90}
    ends |= {"low_95": estimate - half_95, "high_95": estimate + half_95}
    return pd.Series({"mean": estimate, "n": 5, "censored": 0} | ends | more)


@pytest.mark.parametrize(
    ("interval", "verdict", "level"),
    [
        ((0.0, 0.8, 1.1), "supported", 0.90),
        ((0.2, 0.79, 1.0), "supported", 0.90),
        ((0.3, 0.8, 1.0), "inconclusive", 0.90),
        ((2.0, 0.8, 0.9), "refuted", 0.95),
        ((-2.0, 0.8, 0.9), "refuted", 0.95),
        ((2.0, 0.8, 1.1), "inconclusive", 0.90),
        ((0.0, math.nan, math.nan), "inconclusive", 0.90),
    ],
)
def test_rule_within(interval, verdict, level):
    assert verdicts.decide(CLAIM["accuracy_within_1_point"], row(*interval)) == (verdict, level)


@pytest.mark.parametrize(
    ("interval", "verdict", "level"),
    [
        ((-0.5, 0.2, 0.3), "supported", 0.95),
        ((-0.5, 0.4, 0.6), "inconclusive", 0.95),
        ((0.5, 0.2, 0.3), "refuted", 0.95),
        ((0.0, 0.05, 0.07), "refuted", 0.90),
        ((-0.04, 0.01, 0.02), "refuted", 0.90),
        ((0.0, 0.3, 0.4), "inconclusive", 0.95),
        ((0.0, math.nan, math.nan), "inconclusive", 0.95),
    ],
)
def test_rule_less(interval, verdict, level):
    assert verdicts.decide(CLAIM["smoother_gradients"], row(*interval)) == (verdict, level)


def test_a_factor_on_the_gradient_is_not_smoothness(judged):
    record = judged(noise=0.0, norm={"base2": LN2})["smoother_gradients"]
    assert record.verdict == "refuted"
    assert record.estimate == 0.0
    assert record.interval == (0.0, 0.0)
    assert "raw variance ratio 0.48, where the scale of the loss alone predicts 0.48" in record.note


def test_a_factor_on_the_gradient_is_not_smoothness_in_noise_either(judged):
    assert judged(noise=1.0, norm={"base2": LN2})["smoother_gradients"].verdict in ("refuted", "inconclusive")


def test_smaller_spread_is_smoothness(judged):
    record = judged(dispersion={"base2": 0.6})["smoother_gradients"]
    assert record.verdict == "supported"
    assert record.estimate == pytest.approx(-40, abs=5)
    assert record.interval[1] < 0
    assert record.level == 0.95
    assert record.p < 0.01


def test_identical_arms_differ_by_zero(judged):
    records = judged(controls={"base2": "standard"}, norm={})
    assert {key: record.estimate for key, record in records.items()} == dict.fromkeys(records, 0.0)
    assert records["accuracy_within_half_a_point"].verdict == "supported"
    assert records["smoother_gradients"].verdict == "refuted"
    assert records["faster_convergence"].verdict == "refuted"
    assert records["control_base2"].verdict == "supported"
    assert not any("better" in record.note for record in records.values())


def test_accuracy_within_a_margin(judged):
    small = judged(accuracy={"base2": -0.6}, noise=0.2)
    assert small["accuracy_within_1_point"].verdict == "supported"
    assert small["accuracy_within_half_a_point"].verdict != "supported"
    assert "standard is better by" in small["accuracy_within_1_point"].note
    large = judged(accuracy={"base2": 4.0}, noise=0.2)
    assert large["accuracy_within_1_point"].verdict == "refuted"
    assert large["accuracy_within_1_point"].interval[0] > 1
    assert "base2 is better by" in large["accuracy_within_1_point"].note


def test_better_stands_only_where_an_interval_excludes_zero(judged):
    note = judged(accuracy={"base2": 0.05}, noise=3.0)["accuracy_within_1_point"].note
    assert "better" not in note


def test_faster_convergence(judged):
    assert judged(speed={"base2": 0.7})["faster_convergence"].verdict == "supported"
    assert judged(speed={"base2": 1.3})["faster_convergence"].verdict == "refuted"
    assert judged(speed={})["faster_convergence"].verdict == "refuted"


def test_runs_that_never_reach_the_reference_decide_nothing(judged):
    record = judged(accuracy={"base2": -30.0})["faster_convergence"]
    assert record.verdict == "inconclusive"
    assert "censored" in record.note
    assert "base2 never reached it in 4 of 4 runs" in record.note
    assert record.p is None


def test_runs_above_the_reference_at_once_decide_nothing(judged):
    record = judged(evaluations=1)["faster_convergence"]
    assert record.verdict == "inconclusive"
    assert "standard was above it at the first evaluation in 4 of 4 runs" in record.note


def test_one_seed_decides_nothing(judged):
    records = judged(tasks={"digits_vit": 1})
    assert {record.verdict for record in records.values()} == {"inconclusive"}
    for record in records.values():
        assert record.n == 1
        assert record.interval is None
        assert record.level is None
        assert "one pair of runs" in record.note


def test_a_broken_control_withholds_its_task_and_no_other(aggregate_fake):
    broken = (("digits_vit", "e_t1443", 1),)
    folder = aggregate_fake(Fake(tasks={"digits_vit": 2, "stdlib_gpt": 2}, steps=120, broken=broken))
    records = verdicts.read(folder / "verdicts/softmax.json")
    of_task = [record for record in records if record.task == "digits_vit"]
    claims = [record for record in of_task if "control" not in record.id]
    assert {record.verdict for record in claims} == {"withheld"}
    assert all(record.estimate is None and record.interval is None and record.p is None for record in claims)
    assert all("control e_t1443 does not reproduce base2: seed 1: loss differs from step 7" in r.note for r in claims)
    controls = {record.id.rpartition("/")[2]: record for record in of_task if "control" in record.id}
    assert controls["control_e_t1443"].verdict == "refuted"
    assert 0 < controls["control_e_t1443"].estimate < 1e-12
    assert controls["control_base2_t0693"].verdict == "supported"
    assert "withheld" not in {record.verdict for record in records if record.task == "stdlib_gpt"}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("weights", "seed 0: final weights differ"),
        ("gradient norm", "seed 0: gradient norm differs from step 1"),
        ("length", "seed 0: 23 steps against 24"),
    ],
)
def test_a_control_compares_more_than_the_loss(tmp_path, fault, message):
    plan = design.parse(Fake(tasks={"digits_vit": 1}, steps=24).write(tmp_path))
    folder = tmp_path / "softmax/digits_vit/e_t1443/seed0"
    summary = json.loads((folder / "summary.json").read_text())
    lines = (folder / "events.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    if fault == "weights":
        (folder / "summary.json").write_text(json.dumps(summary | {"weights_sha256": "0" * 64}))
    elif fault == "gradient norm":
        first["gradient_norm"] = math.nextafter(first["gradient_norm"], 0)
        (folder / "events.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]))
    else:
        (folder / "events.jsonl").write_text("\n".join(lines[1:]))
    checked = {control.arm: control for control in controls.check(list(runs.read_study(tmp_path, plan)), plan)}
    assert message in checked["e_t1443"].faults[0]
    assert checked["base2_t0693"].faults == ()


def test_what_a_task_does_not_have_is_not_measured(tmp_path):
    fake = Fake(tasks={"digits_vit": 2, "stdlib_gpt": 2}, steps=48)
    fake.write(tmp_path)
    plan = fake.design()
    del plan["runs"]["stdlib_gpt"]["base2"]
    paths = {"results": tmp_path, "verdicts": tmp_path / "softmax.json", "tables": tmp_path}
    aggregate.run(Namespace(study="softmax", design=json.dumps(plan), **paths))
    records = [r for r in verdicts.read(tmp_path / "softmax.json") if r.task == "stdlib_gpt"]
    outcomes = {record.id.rpartition("/")[2]: record.verdict for record in records}
    assert outcomes.pop("control_base2_t0693") == "supported"
    assert set(outcomes.values()) == {"not measured here"}


def test_raw_variance_is_shown_and_not_tested(finished):
    table = tables.read(finished / "tables/softmax_comparisons.csv")
    rows = table[(table["measure"] == "gradient_variance") & table["arm"].isin(("base2", "loss_ln2"))]
    assert rows["mean"].map(math.exp).between(0.4, 0.56).all()
    assert rows[["p", "p_holm", "tost_p"]].isna().all(axis=None)
    assert not rows["tested"].any()


def test_the_reference_accuracy_is_the_baseline_s_for_every_arm(aggregate_fake):
    folder = aggregate_fake(Fake(**PAIR, accuracy={"base2": -20.0}))
    runs = tables.read(folder / "tables/softmax_runs.csv")
    best = runs.loc[runs["arm"] == "standard", "best_validation_accuracy_percent"].mean()
    assert runs["reference_accuracy_percent"].to_numpy() == pytest.approx(0.9 * best)


def test_gradient_scale_alone_is_cited_with_its_numbers(finished):
    records = verdicts.read(finished / "verdicts/softmax.json")
    claims = [record for record in records if "control" not in record.id]
    assert all("gradient scale alone (loss_ln2) " in record.note for record in claims)
    text = [record for record in claims if record.task == "stdlib_gpt" and "accuracy" in record.id]
    assert all("perplexity " in record.note for record in text)


def test_records_have_the_fields_of_every_study(finished):
    records = json.loads((finished / "verdicts/softmax.json").read_text())["verdicts"]
    fields = "id study task claim source measure unit estimate interval level n threshold device verdict figure"
    assert all(" ".join(record) == f"{fields} p p_holm note bound" for record in records)
    assert len({record["id"] for record in records}) == len(records) == 3 * (4 + 2)
    assert all(record["device"].startswith("cpu: Intel") for record in records)
    assert all(record["figure"].startswith("figures/softmax/") for record in records)
