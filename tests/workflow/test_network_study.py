"""The estimator study of a trained network in Snakemake: pretraining feeds it, and an edit reruns what uses it."""

import copy
import re

import pytest

from lowbit.config import load
from tests.workflow.project import ROOT, Project

pytestmark = pytest.mark.workflow

CONFIG = ["--configfile", "tests/configs/tiny_network.yaml"]
TARGETS = ("results/verdicts/estimator.json",)
OF_NETWORK = {"pretrain:digits_xnor:0", "pretrain:digits_xnor:1", "reference:xnor", "estimator:xnor:ste"}
OF_TOY = {"reference:toy", "estimator:toy:ste"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The study, run to its end."""
    project = Project(tmp_path_factory.mktemp("network") / "project", CONFIG)
    project.jobs = project.planned(*TARGETS)
    project.snakemake("--cores", "2", *TARGETS)
    return project


def test_seeds_are_pretrained_once_and_feed_the_reference(study):
    assert study.jobs == OF_NETWORK | OF_TOY | {"prepare:digits", "aggregate_estimates"}
    points = sorted(p.name for p in (study.folder / "results/reference/xnor").glob("point*"))
    assert len(points) == 4, "two seeds, raw and pretrained"


def test_an_edited_model_reruns_its_network_and_nothing_of_the_toy(study):
    model = "lowbit/models/xnor_resnet18.py"
    assert study.planned_after(model, "range(1, 17)", "range(1, 18)", *TARGETS) == OF_NETWORK | {"aggregate_estimates"}


def test_other_coordinates_keep_the_checkpoints(study):
    jobs = study.planned_after("tests/configs/tiny_network.yaml", "coordinates: 4", "coordinates: 5", *TARGETS)
    assert jobs == {"reference:xnor", "estimator:xnor:ste", "aggregate_estimates"}


NETWORKS = [f"{kind}_{width}" for kind in ("fwba", "bwba") for width in (8, 16)]


def test_the_full_grid_plans(study):
    full = copy.copy(study)
    full.config = ["--configfile", "studies/estimators_resnet.yaml"]
    planned = full.planned("results/estimators_resnet/summary.txt", "--config", "data_root=data", "device=cpu")
    measured = {"reference:xnor", *(f"estimator:xnor:{arm}" for arm in ("ste", "cdg", "window"))}
    trained = {f"pretrain:{network}:{seed}" for network in NETWORKS for seed in range(5)}
    assert planned == measured | trained | {"prepare:cifar10", "aggregate_estimates", "summary"}


def test_the_smaller_setting_of_the_documentation_resolves(tmp_path):
    blocks = re.findall(r"```yaml\n(.+?)```", (ROOT / "docs/estimators.md").read_text(), re.DOTALL)
    (tmp_path / "small.yaml").write_text(next(b for b in blocks if b.startswith("results:")))
    files = ROOT / "workflow_config.yaml", ROOT / "studies/estimators_resnet.yaml", tmp_path / "small.yaml"
    config = load(*files, data_root="data")
    assert [r.path for r in config.pretraining] == [f"pretrain/fwba_8/seed{seed}" for seed in range(2)]
    assert {r.problem.coordinates for r in config.runs} == {32}
    assert len(config.references[0].problems) == 2 * 3 * 2
