"""The verdicts as text and as a table of the report."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
from docutils.core import publish_string
from jinja2 import Environment

from lowbit.analysis import figures, summary, verdicts
from lowbit.commands import summary as command
from lowbit.errors import UserError

REPORT = Path(__file__).parents[2] / "report"
RECORD = verdicts.Verdict(
    id="softmax/digits/accuracy",
    study="softmax",
    task="digits",
    claim="Base-2 softmax keeps accuracy within 1 point",
    source="a guide",
    measure="test accuracy; base2 against standard",
    unit="points",
    estimate=-0.123,
    interval=(-0.4, 0.154),
    level=0.9,
    n=5,
    threshold=1.0,
    device="cpu: a_chip, 1 thread",
    verdict="supported",
    figure="figures/softmax/x.png",
    p=0.0123,
    p_holm=0.0369,
    note="gradient scale alone (loss_ln2) +0.1 points",
)


def test_a_verdict_in_words():
    text = summary.text([RECORD])
    assert "Study softmax" in text
    assert "digits (cpu: a_chip, 1 thread)" in text
    assert "[SUPPORTED] Base-2 softmax keeps accuracy within 1 point" in text
    line = (
        "test accuracy; base2 against standard: -0.12 points, 90 % interval [-0.40, +0.15], n = 5, threshold ±1 points"
    )
    assert f"{line}, p = 0.0123 (Holm 0.0369)" in text
    assert "gradient scale alone" in text


def test_a_withheld_verdict_gives_its_reason_and_no_number():
    unknown = dict.fromkeys(("estimate", "interval", "level", "p", "p_holm"))
    text = summary.text([replace(RECORD, verdict="withheld", note="control x does not reproduce y", **unknown)])
    assert "[WITHHELD]" in text
    assert "no estimate" in text
    assert "0.12" not in text
    assert "control x does not reproduce y" in text


def test_a_control_is_held_to_exactly_zero():
    record = replace(RECORD, id="softmax/digits/control_x", unit="nats", estimate=0.0, interval=None, level=None)
    record = replace(record, threshold=0.0, p=None, p_holm=None)
    assert "0 nats, n = 5, threshold exactly 0" in summary.text([record])
    assert "2.22e-16 nats" in summary.text([replace(record, estimate=2.22e-16, verdict="refuted")])


def test_the_command_writes_prints_and_tabulates(finished, tmp_path, capsys):
    files = {"verdicts": [finished / "verdicts/softmax.json"], "output": tmp_path / "summary.txt"}
    assert command.run(Namespace(rst=tmp_path / "summary.rst", **files)) == 0
    text = (tmp_path / "summary.txt").read_text()
    assert capsys.readouterr().out == text
    assert text.count("[SUPPORTED] Arm e_t1443 reproduces arm base2") == 3
    assert "[WITHHELD]" not in text
    page = publish_string((tmp_path / "summary.rst").read_text(), writer="html", settings_overrides={"halt_level": 2})
    assert page.decode().count("<tr>") == 1 + 6
    assert page.decode().count("<strong>supported</strong>") == text.count("[SUPPORTED]")
    assert "digits_resnet18" in page.decode()


def test_many_studies_have_a_row_each():
    outcomes = {"one_study": ["supported"] * 3 + ["refuted"], "two": ["inconclusive"], "three": ["withheld", "refuted"]}
    records = [replace(RECORD, study=s, verdict=outcome) for s, all_of_it in outcomes.items() for outcome in all_of_it]
    page = publish_string(summary.rst(records), writer="html", settings_overrides={"halt_level": 2}).decode()
    assert page.count("<tr>") == 1 + 3
    assert "<strong>supported</strong> 3; <strong>refuted</strong> 1" in page
    assert "one_study" in page
    records = [replace(RECORD, claim=f"claim {number}", verdict="refuted") for number in range(17)]
    assert "**refuted** 17" in summary.rst(records)
    assert "claim 15" in summary.rst(records[:16]), "as many as a page has room for"


def test_a_file_that_is_no_verdict_file_is_refused(tmp_path):
    path = tmp_path / "softmax.json"
    path.write_text('{"verdicts": [{"claim": "x"}]}')
    with pytest.raises(UserError, match="not a verdict file"):
        verdicts.read(path)


@pytest.mark.parametrize("name", [*figures.available("softmax"), "a_figure_of_your_own"])
def test_the_caption_of_every_figure_can_be_rendered(name):
    class Snakemake:
        class wildcards:
            study, figure = "softmax", name

    caption = Environment().from_string((REPORT / "figure.rst").read_text()).render(snakemake=Snakemake)
    page = publish_string(caption, writer="html", settings_overrides={"halt_level": 2}).decode()
    assert name in page
