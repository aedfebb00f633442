"""A run of the estimator study: complete, the same twice, and the same when it is interrupted."""

import json
import shutil

import pytest

from lowbit import manifest
from lowbit.commands.probe import run as probe_command
from lowbit.errors import SettingError
from lowbit.probe import reference
from lowbit.probe import run as runner
from lowbit.probe_spec import ProbeSpec

SPEC = ProbeSpec.model_validate(
    {
        "problem": {"name": "teacher_student", "pretrain_batches": 3, "pretrain_batch_size": 32},
        "estimator": {"name": "cdg"},
        "axes": {"problem.dim": [4, 5], "problem.start_from": ["raw", "pretrained"], "estimator.epsilon": [1.0, 0.1]},
        "batches": 2,
        "batch_size": 64,
        "rates": {"points": 7},
        "reference": {"samples": 512},
    }
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    reference.write(SPEC, folder)
    return folder


def lines(folder):
    """Events without the one thing that differs between equal runs: how long they took."""
    found = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def test_every_point_and_batch_is_measured(shared, tmp_path):
    summary = runner.execute(SPEC, shared, tmp_path, {})
    found = lines(tmp_path)
    points = {json.dumps(line["point"], sort_keys=True) for line in found if line["type"] == "estimate"}
    assert len(points) == summary["points"] == 8
    assert summary["estimates"] == sum(line["type"] == "estimate" for line in found) == 16
    assert {line["tensor"] for line in found if line["type"] == "spread"} == {"all", "hidden1", "hidden2", "hidden3"}
    assert all(len(line["curve"]) == 7 for line in found if line["type"] == "estimate")
    assert not manifest.verify(tmp_path).faults
    assert not (tmp_path / "work").exists(), "a forced rerun would measure nothing"


def test_the_same_spec_gives_the_same_numbers(shared, tmp_path):
    for name in ("one", "two"):
        runner.execute(SPEC, shared, tmp_path / name, {})
    assert lines(tmp_path / "one") == lines(tmp_path / "two")


def test_an_interrupted_run_goes_on_and_gives_the_same(shared, tmp_path, monkeypatch):
    runner.execute(SPEC, shared, tmp_path / "whole", {})
    measured = []

    def interrupted(point, *rest):
        measured.append(point)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return _measure(point, *rest)

    _measure = runner._measure
    monkeypatch.setattr(runner, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.execute(SPEC, shared, tmp_path / "halved", {})
    assert not (tmp_path / "halved/events.jsonl").exists()
    runner.execute(SPEC, shared, tmp_path / "halved", {})
    assert len(measured) == 3 + 2, "two points were finished before and are not measured again"
    assert lines(tmp_path / "halved") == lines(tmp_path / "whole")


@pytest.mark.parametrize("change", ["spec", "code", "reference"])
def test_points_of_another_spec_code_or_reference_are_measured_again(shared, tmp_path, monkeypatch, change):
    measured, measure = [], runner._measure

    def interrupted(point, *rest):
        measured.append(point)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return measure(point, *rest)

    monkeypatch.setattr(runner, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.execute(SPEC, shared, tmp_path / "run", {})
    spec = SPEC.model_copy(update={"batches": 1}) if change == "spec" else SPEC
    if change == "code":
        monkeypatch.setattr(ProbeSpec, "code_digest", "another")
    if change == "reference":
        shutil.copytree(shared, tmp_path / "reference")
        (tmp_path / "reference/manifest.json").write_text("{}")
        shared = tmp_path / "reference"
    runner.execute(spec, shared, tmp_path / "run", {})
    assert len(measured) == 3 + 4


def test_a_reference_is_of_one_spec_and_code(shared, monkeypatch):
    assert reference.is_of(SPEC, shared)
    assert reference.is_of(SPEC.model_copy(update={"batches": 7}), shared), "arms and batches play no part"
    assert not reference.is_of(SPEC.model_copy(update={"seed": 1}), shared)
    monkeypatch.setattr(ProbeSpec, "reference_code_digest", "another")
    assert not reference.is_of(SPEC, shared)


def test_arms_share_start_batches_and_reference(shared, tmp_path):
    other = ProbeSpec.model_validate(
        SPEC.model_dump()
        | {"estimator": {"name": "autograd"}, "axes": {k: v for k, v in SPEC.axes.items() if k.startswith("problem")}}
    )
    runner.execute(SPEC, shared, tmp_path / "cdg", {})
    runner.execute(other, shared, tmp_path / "autograd", {})

    def losses(name):
        found = [line for line in lines(tmp_path / name) if line["type"] == "estimate"]
        return {
            (line["point"]["problem.dim"], line["point"]["problem.start_from"], line["batch"]): line["loss"]
            for line in found
        }

    assert losses("cdg") == losses("autograd")


def test_a_descent_reaches_the_minimum(tmp_path):
    spec = ProbeSpec.model_validate(
        {
            "problem": {"name": "rosenbrock", "pairs": 1},
            "estimator": {"name": "cdg", "epsilon": 0.01},
            "descent": {"updates": 300, "lr": 0.3, "decay_from": 200, "decay_every": 50, "log_every": 100},
            "axes": {"descent.decays_epsilon": [True, False]},
            "batches": 1,
        }
    )
    reference.write(spec, tmp_path / "reference")
    runner.execute(spec, tmp_path / "reference", tmp_path / "run", {})
    found = lines(tmp_path / "run")
    assert {line["type"] for line in found} == {"descent"}
    for decays in (True, False):
        losses = [line["loss"] for line in found if line["point"]["descent.decays_epsilon"] is decays]
        assert len(losses) == 4
        assert losses[-1] < 0.1 * losses[0]


def test_points_of_an_interrupted_reference_are_kept_and_others_are_made_again(tmp_path, monkeypatch):
    halves, made = reference.halves, []

    def counted(problem, start, point):
        if len(made) == stop_at:
            raise KeyboardInterrupt
        made.append(point.seed)
        return halves(problem, start, point)

    monkeypatch.setattr(reference, "halves", counted)
    stop_at, points = 3, len(SPEC.problems)
    with pytest.raises(KeyboardInterrupt):
        reference.write(SPEC, tmp_path / "parts")
    assert not reference.is_of(SPEC, tmp_path / "parts")
    stop_at = None
    reference.write(SPEC, tmp_path / "parts")
    assert len(made) == points
    reference.write(SPEC, tmp_path / "whole")
    for path in sorted((tmp_path / "whole").rglob("*.safetensors")):
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes(), path.name
    assert not manifest.verify(tmp_path / "parts").faults
    assert not (tmp_path / "parts/work").exists(), "a forced rerun would make nothing"

    more = SPEC.model_copy(update={"reference": SPEC.reference.model_copy(update={"samples": 256})})
    made.clear()
    stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        reference.write(SPEC, tmp_path / "other")
    stop_at = None
    reference.write(more, tmp_path / "other")
    assert len(made) == 2 + points, "points of another spec were kept"


def test_steps_may_be_judged_on_more_samples(shared, tmp_path):
    """With more of them the estimates and their steps are the same, and what they do elsewhere is known better."""
    found = {}
    for size in (None, 64, 4096):
        runner.execute(SPEC.model_copy(update={"held_out_size": size}), shared, tmp_path / str(size), {})
        found[size] = [line for line in lines(tmp_path / str(size)) if line["type"] == "estimate"]
    assert found[None] == found[64], "as many as a batch has"
    gains = {size: [line["decrease_held_out"] for line in found[size]] for size in found}
    assert gains[64] != gains[4096]
    assert [line["decrease"] for line in found[64]] == [line["decrease"] for line in found[4096]]


def test_a_wrong_axis_is_explained():
    with pytest.raises(ValueError, match=r"axes\.estimator\.epsilonn: must be one of epsilon"):
        _ = SPEC.model_copy(update={"axes": {"estimator.epsilonn": (1.0,)}}).estimators


def test_a_network_that_the_spec_does_not_know_is_explained(tmp_path):
    spec = SPEC.model_dump() | {"problem": {"name": "network", "of": "digits_xnor"}, "axes": {}}
    with pytest.raises(SettingError, match=r"not 'digits_xnor'.* trained by the pipeline.* --spec results/estimator"):
        reference.write(ProbeSpec.model_validate(spec), tmp_path)


def test_the_command_makes_what_is_missing(tmp_path, capsys):
    import argparse

    from lowbit.commands.probe import add_arguments

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = (
        "--problem.dim 4 --estimator nes --estimator.samples 8 --batches 1 --batch-size 32 --axis estimator.sigma=1,0.1"
    )
    paths = ["--folder", str(tmp_path / "run"), "--reference-samples", "256"]
    args = parser.parse_args([*words.split(), *paths])
    assert probe_command(args) == 0
    assert "sigma 0.1" in capsys.readouterr().out
    assert (tmp_path / "run-reference/point0.safetensors").exists()
