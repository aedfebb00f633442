"""Rebuilds follow meaning: the exact jobs after each kind of edit."""

import pytest

pytestmark = pytest.mark.workflow

FIGURES = ("accuracy_and_loss", "effective_temperature", "final_comparison", "gradient_norms", "ternary_dynamics")
ALWAYS = {"summary", "report_page", "all"}
AFTER_RUNS = {"aggregate:softmax", *(f"figure:softmax:{f}" for f in FIGURES), *ALWAYS}
AFTER_TRANSFER = {"aggregate:transfer", "figure:transfer:pretraining_and_mixup", *ALWAYS}


def runs(*arms: str) -> set[str]:
    return {f"softmax:digits_vit:{arm}:{seed}" for arm in arms for seed in (0, 1)}


@pytest.fixture
def edited(finished):
    """The finished project; edits of the test are undone after it."""
    saved = {p: p.read_bytes() for p in finished.folder.rglob("*") if p.suffix in (".py", ".yaml", ".smk")}
    yield finished
    for path, content in saved.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


def test_nothing_to_do(edited):
    output = edited.snakemake().stdout
    assert "Nothing to be done" in output


def test_a_comment_or_docstring_reruns_nothing(edited):
    edited.edit("lowbit/softmaxes/base2.py", "@variant", "# A comment.\n@variant")
    edited.edit("lowbit/softmaxes/base2.py", '"""Softmax to base 2: s', '"""Softmax to the base 2: s')
    edited.edit("lowbit/train/loop.py", '"""The training loop', '"""The loop of training')
    edited.edit("workflow_config.yaml", "data: results/data", "# A comment.\ndata: results/data")
    assert edited.planned() == set()


def test_an_edited_softmax_reruns_its_runs_and_what_follows(edited):
    edited.edit("lowbit/softmaxes/base2.py", "LN2 * LN2", "LN2 * LN2 * 1.0")
    assert edited.planned() == runs("base2") | AFTER_RUNS


def test_an_edited_arm_reruns_that_arm(edited):
    edited.edit(
        "tests/configs/tiny.yaml", "start: pretrained", "start: pretrained\n        softmax: {temperature: 2.0}"
    )
    assert edited.planned() == runs("pretrained") | AFTER_RUNS


def test_edited_pretraining_reruns_the_checkpoint_and_who_starts_from_it(edited):
    edited.edit("tests/configs/tiny.yaml", "train: {epochs: 0.5}", "train: {epochs: 0.6}")
    tuned = runs("pretrained") | {"transfer:digits_vit:pretrained:0"}
    assert edited.planned() == {"pretrain:digits_vit:0", "pretrain:digits_vit:1"} | tuned | AFTER_RUNS | AFTER_TRANSFER


def test_an_arm_of_another_training_study_reruns_alone(edited):
    edited.edit("tests/configs/tiny.yaml", "pretrained: {train: {epochs: 0.5}}", "pretrained: {train: {epochs: 0.4}}")
    assert edited.planned() == {"transfer:digits_vit:pretrained:0"} | AFTER_TRANSFER


def test_an_edited_figure_redraws_that_figure(edited):
    edited.edit("lowbit/analysis/figures/softmax/ternary_dynamics.py", "def draw(", "UNUSED = 1\n\n\ndef draw(")
    assert edited.planned() == {"figure:softmax:ternary_dynamics", "report_page", "all"}


def test_a_progress_bar_is_no_part_of_a_result(edited):
    edited.edit("lowbit/train/listeners/progress.py", "class Progress", "UNUSED = 1\n\n\nclass Progress")
    assert edited.planned() == set()


def test_one_more_seed_adds_only_its_runs(edited):
    edited.edit("tests/configs/tiny.yaml", "digits_vit: {seeds: 2}", "digits_vit: {seeds: 3}")
    arms = ("standard", "base2", "e_t1443", "pretrained")
    new = {f"softmax:digits_vit:{arm}:2" for arm in arms} | {"pretrain:digits_vit:2"}
    assert edited.planned() == new | AFTER_RUNS


def test_a_fault_in_the_configuration_stops_before_any_job(edited):
    edited.edit("tests/configs/tiny.yaml", "start: pretrained", "start: pretraind")
    result = edited.snakemake(check=False)
    assert result.returncode != 0
    assert "studies.softmax.arms.pretrained.start: must be 'scratch' or 'pretrained', got 'pretraind'" in result.stdout
    assert "Job stats" not in result.stdout
