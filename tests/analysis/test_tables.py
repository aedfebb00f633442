"""Tables and verdicts as files: whole, exact, and the same for the same runs."""

import json
import math
from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
from fake_runs import Fake

from lowbit.analysis import design, runs, tables
from lowbit.analysis.tables import load
from lowbit.commands import aggregate
from lowbit.errors import UserError

WRITTEN = [
    "tables/softmax_runs.csv",
    "tables/softmax_curves.csv",
    "tables/softmax_comparisons.csv",
    "verdicts/softmax.json",
]


def test_one_row_per_run_in_the_order_of_the_design(finished):
    table = tables.read(finished / "tables/softmax_runs.csv")
    assert len(table) == (5 + 3 + 3) * 5
    content = load("softmax", finished / "tables", finished / "verdicts")
    assert content.tasks == tuple(Fake().tasks)
    assert content.arms == Fake().arms
    assert content.baseline == "standard"
    assert table["effective_temperature"].unique().tolist() == pytest.approx([1.0, 1 / math.log(2)])


def test_curves_are_decimated(tmp_path, aggregate_fake):
    folder = aggregate_fake(Fake(tasks={"digits_vit": 1}, arms=("standard", "base2"), steps=600))
    curves = tables.read(folder / "tables/softmax_curves.csv")
    steps = curves[(curves["kind"] == "step") & (curves["arm"] == "base2")]
    assert len(steps) == 200
    events = [
        json.loads(line) for line in (folder / "softmax/digits_vit/base2/seed0/events.jsonl").read_text().splitlines()
    ]
    first = [event["gradient_norm"] for event in events if event["type"] == "step"][:3]
    assert steps["gradient_norm"].iloc[0] == pytest.approx(np.median(first))
    assert steps["zero_fraction"].notna().any()


def test_the_same_runs_give_the_same_bytes(finished, tmp_path):
    again = tmp_path / "again"
    paths = {"results": finished, "verdicts": again / "verdicts/softmax.json", "tables": again / "tables"}
    aggregate.run(Namespace(study="softmax", design=json.dumps(Fake(steps=120).design()), **paths))
    for name in WRITTEN:
        assert (again / name).read_bytes() == (finished / name).read_bytes()
    assert not [path for path in again.rglob(".*") if path.is_file()]


def test_timings_enter_no_comparison(finished, tmp_path):
    fake = Fake(tasks={"digits_vit": 2}, arms=("standard", "base2"), steps=120)
    design_text = fake.write(tmp_path)
    written = []
    for seconds in (1.0, 99.0):
        for path in tmp_path.glob("softmax/*/*/seed*/summary.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))
        paths = {"results": tmp_path, "verdicts": tmp_path / "v/softmax.json", "tables": tmp_path / "t"}
        aggregate.run(Namespace(study="softmax", design=design_text, **paths))
        written.append(
            (tmp_path / "t/softmax_comparisons.csv").read_bytes() + (tmp_path / "v/softmax.json").read_bytes()
        )
    assert written[0] == written[1]


@pytest.mark.parametrize("name", ["null", "nan", "NA", "none", "1e5"])
def test_an_arm_may_be_called_anything(tmp_path, name):
    table = pd.DataFrame(
        {"arm": [name, "standard"], "target": ["", name], "test_perplexity": [math.nan, 2.5], "seed": [0, 1]}
    )
    tables.write(tmp_path / "t.csv", table)
    back = tables.read(tmp_path / "t.csv")
    assert back["arm"].tolist() == [name, "standard"]
    assert back["target"].tolist() == ["", name]
    assert math.isnan(back["test_perplexity"][0])
    assert back["test_perplexity"][1] == 2.5


def test_an_arm_called_null_goes_through_the_whole_analysis(aggregate_fake):
    folder = aggregate_fake(Fake(tasks={"digits_vit": 2}, arms=("standard", "base2", "null"), steps=120))
    content = load("softmax", folder / "tables", folder / "verdicts")
    assert content.arms == ("standard", "base2", "null")
    assert "null" in set(content.comparisons["arm"])


def test_text_tasks_carry_perplexity_and_bits_per_byte(finished):
    table = tables.read(finished / "tables/softmax_runs.csv").set_index("task")
    text = table.loc["stdlib_gpt"]
    assert text["test_perplexity"].to_numpy() == pytest.approx(np.exp(text["test_loss"].to_numpy()))
    assert text["test_bits_per_byte"].to_numpy() == pytest.approx(text["test_loss"].to_numpy() / math.log(2) / 3.1)
    assert table.loc["digits_vit", "test_perplexity"].isna().all()


@pytest.mark.parametrize("name", ["spec.json", "summary.json", "events.jsonl"])
def test_a_missing_file_is_named(tmp_path, name):
    fake = Fake(tasks={"digits_vit": 1}, arms=("standard", "base2"), steps=24)
    plan = design.parse(fake.write(tmp_path))
    gone = tmp_path / "softmax/digits_vit/base2/seed0" / name
    gone.unlink()
    with pytest.raises(UserError, match=f"{gone}: missing; make the run first"):
        list(runs.read_study(tmp_path, plan))


def test_a_truncated_line_is_named(tmp_path):
    plan = design.parse(Fake(tasks={"digits_vit": 1}, arms=("standard", "base2"), steps=24).write(tmp_path))
    path = tmp_path / "softmax/digits_vit/standard/seed0/events.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match=r"events.jsonl:36: not a JSON line .*train it again"):
        list(runs.read_study(tmp_path, plan))


def test_a_run_in_the_wrong_folder_is_refused(tmp_path):
    plan = design.parse(Fake(tasks={"digits_vit": 1}, arms=("standard", "base2"), steps=24).write(tmp_path))
    path = tmp_path / "softmax/digits_vit/base2/seed0/spec.json"
    path.write_text((tmp_path / "softmax/digits_vit/standard/seed0/spec.json").read_text())
    with pytest.raises(UserError, match="not the run its path names"):
        list(runs.read_study(tmp_path, plan))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "standrd"}, "baseline: no arm 'standrd'"),
        ({"treatment": "base3"}, "treatment: no arm 'base3'"),
        ({"controls": {"e_t1443": "base9"}}, "no arm 'base9'"),
        ({"controls": {"e_x": "base2"}}, "no arm 'e_x'"),
    ],
)
def test_a_design_that_names_an_unknown_arm_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        design.parse(json.dumps(Fake().design() | change))


def test_a_design_may_be_a_file(tmp_path):
    path = tmp_path / "design.json"
    path.write_text(json.dumps(Fake().design()))
    assert design.parse(str(path)) == design.parse(json.dumps(Fake().design()))
    with pytest.raises(UserError, match="not valid JSON"):
        design.parse("{")
    with pytest.raises(UserError, match="treatment, controls, runs missing"):
        design.parse('{"study": "softmax", "baseline": "standard"}')
