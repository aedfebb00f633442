"""Seeds of an arm in one job: those that are done outlive an interruption, and none is published before all are."""

import json
import signal

import pytest

from lowbit import manifest
from lowbit.__main__ import main
from lowbit.spec import RunSpec
from lowbit.train.identity import identity_of
from lowbit.train.run import Interrupted

SEEDS = range(3)


def spec_of(seed: int, **train) -> RunSpec:
    named = {"study": "exchange", "task": "digits", "arm": "topk", "seed": seed}
    exchange = {"compressor": {"name": "topk"}}
    return RunSpec(**named, model={"name": "resnet18"}, exchange=exchange, train={"epochs": 1, **train})


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job whose runs take no time; `stop_at` is the seed at which it is interrupted."""

    class Job:
        folder, data, stop_at = tmp_path / "arm", tmp_path / "data", None

        def __init__(self):
            self.trained = []

        def launch(self, spec, folder, data_folder, **settings):
            assert settings["resume"]
            if spec.seed == self.stop_at:
                raise Interrupted(signal.SIGTERM)
            self.trained.append(spec.seed)
            test = {"best": {"accuracy": 0.5, "loss": 1.0}}
            summary = {"metric": "accuracy", "test": test, "seconds": 1.0, "identity": identity_of(spec, {})}
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "spec.json").write_text(spec.to_json())
            (folder / "summary.json").write_text(json.dumps(summary))
            manifest.write(folder)
            return summary

        def run(self, **train) -> int:
            specs = [spec_of(seed, **train).model_dump(mode="json") for seed in SEEDS]
            paths = ["--folder", str(self.folder), "--data-folder", str(self.data)]
            return main(["train-seeds", "--specs", json.dumps(specs), *paths])

        @property
        def published(self) -> set[int]:
            return {seed for seed in SEEDS if (self.folder / f"seed{seed}/manifest.json").exists()}

    made = Job()
    made.data.mkdir()
    (made.data / "manifest.json").write_text("{}")
    monkeypatch.setattr("lowbit.train.launch.launch", made.launch)
    return made


def test_all_seeds_are_published_at_once_and_nothing_is_left(job):
    assert job.run() == 0
    assert job.trained == list(SEEDS)
    assert job.published == set(SEEDS)
    assert sorted(path.name for path in job.folder.iterdir()) == ["seed0", "seed1", "seed2"]


def test_seeds_that_are_done_are_not_trained_again(job):
    job.stop_at = 2
    assert job.run() == 128 + signal.SIGTERM
    assert (job.trained, job.published) == ([0, 1], set()), "Snakemake would delete what is published"
    job.stop_at = None
    assert job.run() == 0
    assert (job.trained, job.published) == ([0, 1, 2], set(SEEDS))


def test_seeds_of_other_settings_are_trained_again(job):
    job.stop_at = 2
    job.run()
    job.stop_at = None
    assert job.run(epochs=2) == 0
    assert job.trained == [0, 1, 0, 1, 2]
