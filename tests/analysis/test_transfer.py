"""The transfer study from end to end: known effects in, the right words out, and epochs of pretraining counted."""

import json
import warnings
from argparse import Namespace

import matplotlib as mpl
import numpy as np
import pytest
from fake_runs import Fake, aggregated

from lowbit.analysis import design, figures, runs, style, summary, tables, verdicts
from lowbit.analysis.claims import CLAIMS
from lowbit.commands import aggregate, figure
from lowbit.errors import UserError

ARMS = ("scratch", "pretrained", "scratch_mixup", "pretrained_mixup")
STUDY = {
    "study": "transfer", "baseline": "scratch", "treatment": "pretrained", "arms": ARMS, "controls": {}, "norm": {},
    "pretrained": ("pretrained", "pretrained_mixup"), "tasks": {"digits_binary": 4}, "steps": 60, "noise": 0.5,
}  # fmt: skip


@pytest.fixture
def judged(aggregate_fake):
    """Fake runs to verdicts by the last part of their id; one task."""

    def judge(**settings):
        folder = aggregate_fake(Fake(**{**STUDY, **settings}))
        records = verdicts.read(folder / "verdicts/transfer.json")
        return {record.id.rpartition("/")[2]: record for record in records}

    return judge


def test_effects_come_out_as_they_were_put_in(judged):
    """Each claim has another outcome against its own baseline than the study's would give, where these differ."""
    records = judged(accuracy={"pretrained": 2.0, "scratch_mixup": 4.0, "pretrained_mixup": 2.0})
    assert {key: record.verdict for key, record in records.items()} == {
        "pretraining_helps": "supported",
        "pretraining_helps_with_mixup": "refuted",
        "mixup_helps": "supported",
        "mixup_helps_after_pretraining": "inconclusive",
    }
    helped = records["pretraining_helps"]
    assert helped.estimate == pytest.approx(2, abs=0.4)
    assert helped.interval[0] > 0
    assert (helped.level, helped.n, helped.threshold) == (0.95, 4, 0)
    assert "pretrained is better by" in helped.note
    mixed = records["pretraining_helps_with_mixup"]
    assert mixed.estimate == pytest.approx(-2, abs=0.4), "+2 against the study's baseline"
    assert mixed.interval[1] < 0
    assert "pretrained_mixup against scratch_mixup" in mixed.measure
    assert "scratch_mixup is better by" in mixed.note
    assert not [key for key in records if "control" in key]


def test_arms_without_a_difference_settle_nothing(judged):
    records = judged(controls=dict.fromkeys(ARMS[1:], "scratch"), pretrained=())
    claims = [record for key, record in records.items() if "control" not in key]
    assert {(record.verdict, record.estimate) for record in claims} == {("inconclusive", 0.0)}
    assert {record.verdict for key, record in records.items() if "control" in key} == {"supported"}


def test_one_seed_settles_nothing_and_a_missing_arm_is_not_measured(judged):
    records = judged(tasks={"digits_binary": 1}, arms=ARMS[:3], accuracy={"pretrained": 9.0})
    assert records["pretraining_helps"].verdict == records["mixup_helps"].verdict == "inconclusive"
    missing = records["pretraining_helps_with_mixup"]
    assert missing.verdict == "not measured here"
    assert "needs pretrained_mixup and scratch_mixup" in missing.note


def test_a_verdict_says_how_long_each_arm_was_trained(judged):
    records = judged()
    words = "pretrained 2 epochs of pretraining and 3, scratch 5 epochs"
    assert words in records["pretraining_helps"].note
    assert "epochs" not in records["mixup_helps"].note


def test_a_margin_of_zero_is_not_taken_for_a_control(judged):
    text = summary.text([judged(accuracy={"pretrained": 2.0})["pretraining_helps"]])
    assert "exactly" not in text
    assert "pretrained against scratch: +" in text
    assert "n = 4, threshold 0, p = " in text


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 1.0, "supported"), (-1.0, -0.1, "refuted"), (-0.1, 1.0, "inconclusive")]
)
def test_rule_more(low, high, verdict):
    row = {"low_90": low, "high_90": high, "low_95": low, "high_95": high, "censored": 0}
    assert verdicts.decide(CLAIMS["transfer"][0], row) == (verdict, 0.95)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with two tasks, aggregated."""
    effects = {"accuracy": {"pretrained": 1.0}, "tasks": {"digits_binary": 3, "cifar10_binary": 2}}
    return aggregated(tmp_path_factory.mktemp("transfer"), Fake(**{**STUDY, **effects}))


def content_of(folder) -> tables.Tables:
    return tables.load("transfer", folder / "tables", folder / "verdicts")


def test_tables_count_pretraining_and_keep_its_curve(study):
    content = content_of(study)
    whole = content.runs["epochs_before"] + content.runs["epochs"]
    assert set(whole) == {5.0}
    before = content.runs.groupby("arm")["epochs_before"].first()
    assert before.to_dict() == {"scratch": 0, "pretrained": 2, "scratch_mixup": 0, "pretrained_mixup": 2}
    epochs, values = content.curve("digits_binary", "pretrained", "pretraining", "accuracy_percent", along="epoch")
    assert epochs[-1] == 2
    assert values.shape == (3, 12)
    assert "pretraining" not in set(content.curves.loc[content.curves["arm"] == "scratch", "kind"])


def test_pairs_of_claims_are_compared_beside_the_baseline(study):
    table = content_of(study).comparisons
    asked = set(zip(table["arm"], table["baseline"], strict=True))
    assert asked == {(arm, "scratch") for arm in ARMS[1:]} | {
        ("pretrained_mixup", "scratch_mixup"),
        ("pretrained_mixup", "pretrained"),
    }
    assert not table.duplicated(["task", "arm", "baseline", "measure"]).any()


def test_pretraining_that_is_gone_is_named(study, tmp_path):
    fake = Fake(**{**STUDY, "tasks": {"digits_binary": 1}})
    text = fake.write(tmp_path)
    (tmp_path / "pretrain/digits_binary/seed0/spec.json").unlink()
    with pytest.raises(UserError, match=r"pretrain/digits_binary/seed0/spec\.json: missing"):
        list(runs.read_study(tmp_path, design.parse(text)))


def test_the_figure_is_the_same_every_time(study, tmp_path):
    assert figures.available("transfer") == ("pretraining_and_mixup",)
    for out in ("one", "two"):
        files = {f"output_{kind}": tmp_path / out / f"figure.{kind}" for kind in ("png", "svg")}
        places = {"tables": study / "tables", "verdicts": study / "verdicts"}
        assert figure.run(Namespace(study="transfer", name="pretraining_and_mixup", **files, **places)) == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def drawn(content: tables.Tables):
    with style.applied(), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # matplotlib warns where a layout does not fit
        figure = figures.drawer("transfer", "pretraining_and_mixup")(content)
        figure.canvas.draw()
    return figure


def test_the_figure_shows_differences_and_counts_epochs(study):
    figure = drawn(content_of(study))
    accuracy, differences, curves = figure.axes[:3]
    words = " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    assert "pretrained_mixup\nminus scratch_mixup" in words
    assert "digits_binary 3, cifar10_binary 2" in words.replace("\n", " ")
    assert "Intel(R) Xeon(R)" in words.replace("\n", " ")
    assert (accuracy.get_title(loc="left"), curves.get_ylabel()) == ("digits_binary", "validation accuracy (%)")
    ends = sorted({float(np.max(line.get_xdata())) for line in curves.get_lines()} - {1.0})
    assert ends == [2.0, 5.0], "pretraining ends at its epochs, every arm at the same epoch"
    assert len(differences.get_lines()) == 1 + 3 * 5


def test_the_figure_can_be_drawn_from_little(tmp_path):
    fake = Fake(**{**STUDY, "tasks": {"digits_binary": 1}, "evaluations": 1, "arms": ARMS[:2], "pretrained": ()})
    drawn(content_of(aggregated(tmp_path / "little", fake)))
    alone = Fake(**{**STUDY, "tasks": {"digits_binary": 2}, "arms": ARMS[:1], "treatment": "scratch", "pretrained": ()})
    words = [text.get_text() for text in drawn(content_of(aggregated(tmp_path / "one", alone))).findobj(mpl.text.Text)]
    assert "no two arms to compare" in words


def test_the_same_runs_give_the_same_bytes(study, tmp_path):
    fake = Fake(**{**STUDY, "tasks": {"digits_binary": 3, "cifar10_binary": 2}})
    paths = {"results": study, "verdicts": tmp_path / "transfer.json", "tables": tmp_path}
    aggregate.run(Namespace(study="transfer", design=json.dumps(fake.design()), **paths))
    assert (tmp_path / "transfer.json").read_bytes() == (study / "verdicts/transfer.json").read_bytes()
