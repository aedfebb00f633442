"""The estimator study in Snakemake: everything is made once, and an edit reruns what uses it."""

import json

import pytest

from tests.workflow.project import Project

pytestmark = pytest.mark.workflow

CONFIG = ["--configfile", "tests/configs/tiny_estimators.yaml"]
TARGETS = ("results/summary.txt", "results/figures/estimator/surrogate_gallery.png")  # all figures are drawn elsewhere


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study, run to its end."""
    project = Project(tmp_path_factory.mktemp("estimators") / "project", CONFIG)
    project.snakemake("--cores", "2", *TARGETS)
    return project


def test_every_arm_has_a_run_and_a_figure_is_drawn(study):
    results = study.folder / "results"
    runs = {str(p.parent.relative_to(results / "estimator")) for p in (results / "estimator").rglob("manifest.json")}
    assert runs == {"toy/ste", "toy/cdg", "rosenbrock/cdg_descent"}
    assert (results / "figures/estimator/surrogate_gallery.svg").exists()
    verdicts = json.loads((results / "verdicts/estimator.json").read_text())["verdicts"]
    assert {v["verdict"] for v in verdicts} <= {"supported", "refuted", "inconclusive", "withheld", "not measured here"}
    assert study.lowbit("verify", "results").returncode == 0


def test_nothing_is_left_to_do(study):
    assert study.planned(*TARGETS) == set()


def test_an_estimator_reruns_its_arm_alone(study):
    study.edit("lowbit/estimators/autograd.py", "objective.gradient(), 1", "objective.gradient(), 1 + 0")
    everywhere = study.planned(*TARGETS)
    study.edit("lowbit/estimators/autograd.py", "objective.gradient(), 1 + 0", "objective.gradient(), 1")
    # References of networks without roundings are backpropagated, so that all follows from it; not so with this one:
    assert {"reference:toy", "estimator:toy:ste", "aggregate_estimates"} <= everywhere
    study.edit("lowbit/estimators/nes.py", "2 * self.samples", "self.samples * 2")
    assert study.planned(*TARGETS) == set(), "no arm of this study uses NES"
    study.edit("lowbit/estimators/cdg.py", "Central difference along", "A central difference along")
    assert study.planned(*TARGETS) == set(), "a docstring reruns nothing"


def test_a_surrogate_that_no_arm_uses_redraws_the_gallery(study):
    study.edit("lowbit/surrogates/steep.py", "2.0", "2.00")
    assert study.planned(*TARGETS) == set(), "the same number"
    study.edit("lowbit/surrogates/swish_sign.py", "b: Positive = 5.0", "b: Positive = 4.0")
    jobs = study.planned(*TARGETS)
    study.edit("lowbit/surrogates/swish_sign.py", "b: Positive = 4.0", "b: Positive = 5.0")
    assert "gallery" in jobs
    assert not {job for job in jobs if job.startswith(("estimator", "reference"))}


def test_another_epsilon_reruns_its_arm_alone(study):
    study.edit("tests/configs/tiny_estimators.yaml", "[0.3, 0.1]", "[0.3, 0.2]")
    jobs = study.planned(*TARGETS)
    study.edit("tests/configs/tiny_estimators.yaml", "[0.3, 0.2]", "[0.3, 0.1]")
    assert {job for job in jobs if job.startswith(("estimator", "reference", "aggregate"))} == {
        "estimator:toy:cdg",
        "aggregate_estimates",
    }
