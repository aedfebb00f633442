"""The estimator study of a trained network in Snakemake: pretraining feeds it, and an edit reruns what uses it."""

import re

import pytest

from tests.workflow.project import ROOT, Project

pytestmark = pytest.mark.workflow

CONFIG = ["--configfile", "tests/configs/tiny_network.yaml"]
TARGETS = ("results/verdicts/estimator.json",)
OF_NETWORK = {"pretrain:digits_xnor:0", "pretrain:digits_xnor:1", "reference:xnor", "estimator:xnor:ste"}
OF_TOY = {"reference:toy", "estimator:toy:ste"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The study, run to its end."""
    project = Project(tmp_path_factory.mktemp("network") / "project", CONFIG)
    project.first = project.planned(*TARGETS)
    project.snakemake("--cores", "2", *TARGETS)
    return project


def jobs_after(project: Project, name: str, old: str, new: str) -> set[str]:
    """What an edit makes out of date; it is undone."""
    content = (project.folder / name).read_bytes()
    project.edit(name, old, new)
    try:
        return project.planned(*TARGETS)
    finally:
        (project.folder / name).write_bytes(content)


def test_seeds_are_pretrained_once_and_feed_the_reference(finished):
    assert finished.first == OF_NETWORK | OF_TOY | {"prepare:digits", "aggregate_estimates"}
    points = sorted(p.name for p in (finished.folder / "results/reference/xnor").glob("point*"))
    assert len(points) == 4, "two seeds, raw and pretrained"
    assert finished.planned(*TARGETS) == set()


def test_an_edited_model_reruns_its_network_and_nothing_of_the_toy(finished):
    model = "lowbit/models/xnor_resnet18.py"
    assert jobs_after(finished, model, "range(1, 17)", "range(1, 18)") == OF_NETWORK | {"aggregate_estimates"}
    assert jobs_after(finished, model, '"""Stem, sixteen', '"""A stem, sixteen') == set()


def test_an_edited_quantizer_of_the_network_reruns_it(finished):
    jobs = jobs_after(finished, "lowbit/quantizers/none.py", "return x\n", "return x.view_as(x)\n")
    assert jobs >= OF_NETWORK


def test_an_edited_recipe_trains_anew(finished):
    jobs = jobs_after(finished, "tests/configs/tiny_network.yaml", "epochs: 0.1", "epochs: 0.2")
    assert jobs == OF_NETWORK | {"aggregate_estimates"}


def test_edited_coordinates_keep_the_checkpoints(finished):
    jobs = jobs_after(finished, "tests/configs/tiny_network.yaml", "coordinates: 4", "coordinates: 5")
    assert jobs == {"reference:xnor", "estimator:xnor:ste", "aggregate_estimates"}


def test_a_network_that_is_no_task_stops_before_any_job(finished):
    finished.edit("tests/configs/tiny_network.yaml", "network: digits_xnor", "network: digits_xnr")
    result = finished.snakemake("--dry-run", *TARGETS, check=False)
    finished.edit("tests/configs/tiny_network.yaml", "network: digits_xnr", "network: digits_xnor")
    assert result.returncode != 0
    assert "studies.estimator.probes.xnor.problem.network: no such task 'digits_xnr'" in result.stdout
    assert "did you mean 'digits_xnor'" in result.stdout


def test_the_full_grid_and_its_smaller_setting_plan(finished):
    (finished.folder / "studies").mkdir()
    overlay = finished.folder / "studies/estimators_resnet.yaml"
    overlay.write_text((ROOT / "studies/estimators_resnet.yaml").read_text())
    blocks = re.findall(r"```yaml\n(.+?)```", (ROOT / "docs/estimators.md").read_text(), re.DOTALL)
    (finished.folder / "small.yaml").write_text(next(b for b in blocks if b.startswith("results:")))
    planned = {}
    for name, files in {"full": [overlay], "small": [overlay, "small.yaml"]}.items():
        project = Project.__new__(Project)
        project.folder, project.config = finished.folder, ["--configfile", *map(str, files)]
        planned[name] = {j for j in project.planned("--config", "data_root=data", "device=cpu") if "figure" not in j}
    measured = {"reference:xnor", *(f"estimator:xnor:{arm}" for arm in ("ste", "cdg", "window"))}
    networks = [f"{kind}_{width}" for kind in ("fwba", "bwba") for width in (8, 16)]
    always = {"prepare:cifar10", "aggregate_estimates", "gallery", "summary", "report_page", "all"}
    assert planned["full"] == measured | always | {f"pretrain:{n}:{s}" for n in networks for s in range(5)}
    assert planned["small"] == measured | always | {f"pretrain:fwba_8:{s}" for s in range(3)}
