"""Run folders that look like real ones, with effects of known size, without training anything."""

import hashlib
import json
import math
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lowbit.commands import aggregate

LN2 = math.log(2.0)
TASKS = {"digits_resnet18": 5, "digits_vit": 3, "stdlib_gpt": 3}
SOFTMAX = {
    "standard": {"name": "base_e", "temperature": 1.0},
    "base2": {"name": "base2", "temperature": 1.0},
    "e_t1443": {"name": "base_e", "temperature": "1/ln2"},
    "base2_t0693": {"name": "base2", "temperature": "ln2"},
    "loss_ln2": {"name": "base_e", "temperature": 1.0},
}
CONTROLS = {"e_t1443": "base2", "base2_t0693": "standard"}
MACHINE = {"processor": "Intel(R) Xeon(R) Processor @ 2.50GHz", "threads": 1, "gpu": None}


@dataclass
class Fake:
    """What the written runs are like; arms that are not named in a mapping have no effect of their own.

    Args:
        tasks: task -> number of seeds.
        arms: the arms, in order.
        controls: arm -> arm it copies exactly.
        steps: optimizer steps per run.
        evaluations: validation passes per run.
        accuracy: arm -> points added to its final accuracy.
        dispersion: arm -> factor on the spread of its log gradient norms.
        norm: arm -> factor on its gradient norms.
        speed: arm -> factor on the time it takes to learn.
        noise: spread of the arm's own differences between seeds.
        broken: (task, arm, seed) of runs whose loss is off by one bit at step 7.
        study: name of the study.
        baseline: its baseline.
        treatment: its treatment.
        pretrained: arms that start from 2 epochs of pretraining.
    """

    tasks: dict[str, int] = field(default_factory=lambda: dict(TASKS))
    arms: tuple[str, ...] = tuple(SOFTMAX)
    controls: dict[str, str] = field(default_factory=lambda: dict(CONTROLS))
    steps: int = 240
    evaluations: int = 12
    accuracy: dict[str, float] = field(default_factory=dict)
    dispersion: dict[str, float] = field(default_factory=dict)
    norm: dict[str, float] = field(default_factory=lambda: {"base2": LN2, "loss_ln2": LN2})
    speed: dict[str, float] = field(default_factory=dict)
    noise: float = 1.0
    broken: tuple[tuple[str, str, int], ...] = ()
    study: str = "softmax"
    baseline: str = "standard"
    treatment: str = "base2"
    pretrained: tuple[str, ...] = ()

    def design(self) -> dict:
        """The study's design, as the workflow passes it."""
        runs = {task: {arm: list(range(n)) for arm in self.arms} for task, n in self.tasks.items()}
        controls = {arm: target for arm, target in self.controls.items() if arm in self.arms}
        parts = {"study": self.study, "baseline": self.baseline, "treatment": self.treatment}
        return parts | {"controls": controls, "runs": runs}

    def write(self, results: Path) -> str:
        """Write every run folder and return the design as JSON."""
        for task, seeds in self.tasks.items():
            for seed in range(seeds):
                start = results / "pretrain" / task / f"seed{seed}"
                if self.pretrained:
                    self._run(start, task, "pretrain", seed, epochs=2.0)
                for arm in self.arms:
                    folder = results / self.study / task / arm / f"seed{seed}"
                    if arm in self.pretrained:
                        self._run(folder, task, arm, seed, epochs=3.0, start=str(start / "weights.safetensors"))
                    else:
                        self._run(folder, task, arm, seed)
        return json.dumps(self.design())

    def _run(self, folder: Path, task: str, arm: str, seed: int, epochs: float = 5.0, start: str | None = None) -> None:
        like = self.controls.get(arm, arm)
        shared = np.random.default_rng([_key(task), seed])
        own = np.random.default_rng([_key(task), _key(like), seed])
        text = task.endswith("gpt")
        unit = "tokens" if text else "samples"
        final = (0.42 if text else 0.93) + 0.01 * shared.normal()
        final += (self.accuracy.get(like, 0.0) + 0.2 * self.noise * own.normal()) / 100
        pace = 0.12 * self.steps * self.speed.get(like, 1.0)
        pace *= math.exp(0.1 * shared.normal() + 0.01 * self.noise * own.normal())
        chance, worst = (0.02, 5.2) if text else (0.1, LN2 * 10 / 3)
        spread = 0.25 * self.dispersion.get(like, 1.0) * (1 + 0.02 * self.noise * own.normal())
        common = shared.normal(size=self.steps)
        jitter = common + 0.05 * self.noise * own.normal(size=self.steps)

        def at(step: float) -> tuple[float, float]:
            learned = 1 - math.exp(-step / pace)
            return chance + (final - chance) * learned, worst * (1 - 0.8 * learned * final / 0.93)

        lines, evaluations = [], []
        for step in range(1, self.steps + 1):
            accuracy, loss = at(step)
            loss *= 1 + 0.03 * jitter[step - 1]
            if (task, arm, seed) in self.broken and step == 7:
                loss = math.nextafter(loss, math.inf)
            norm = self.norm.get(like, 1.0) * (0.4 + 2 * math.exp(-step / pace)) * math.exp(spread * jitter[step - 1])
            epoch = step * epochs / self.steps
            record = {"type": "step", "step": step, "epoch": epoch, "loss": loss, "accuracy": accuracy, "lr": 1e-3}
            record |= {"weight_decay": 0.0, "gradient_norm": norm, "clipped": norm > 2, unit: 64}
            if text:
                record["perplexity"] = math.exp(loss)
            if step % 4 == 0:
                record |= {f"{unit}_per_second": 900 + 50 * own.random(), "memory_bytes": 3e8}
                record |= {"zero_fraction": 0.31 + 0.04 * (1 - math.exp(-step / 80)) + 1e-3 * own.normal()}
                record |= {"flip_rate": 2e-3 * math.exp(-step / 90) * math.exp(0.1 * own.normal())}
            lines.append(record)
            if step % (self.steps // self.evaluations) == 0:
                accuracy, loss = at(step)
                evaluation = {"type": "evaluation", "step": step, "epoch": epoch, "split": "validation"}
                evaluations.append(evaluation | {"loss": loss, "accuracy": accuracy})
                if text:
                    evaluations[-1]["perplexity"] = math.exp(loss)
                lines.append(evaluations[-1])
        best = min(evaluations, key=lambda e: e["loss"])
        results = {key: best[key] for key in ("loss", "accuracy", "perplexity") if key in best}
        own_spec = {"study": self.study, "start_from": start, "train": {"epochs": epochs, "batch_size": 64}}
        folder.mkdir(parents=True)
        events = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "events.jsonl").write_text(events)
        (folder / "spec.json").write_text(json.dumps(_spec(task, arm, seed, text) | own_spec))
        summary = {
            "metric": "perplexity" if text else "accuracy", "unit": unit, "test": {"last": results, "best": results},
            "validation": {"best_loss": best["loss"], "best_step": best["step"]}, "steps": self.steps,
            "parameters": 123456, "weights_sha256": hashlib.sha256(f"{task} {like} {seed}".encode()).hexdigest(),
            "layers": [
                {"name": "stem", "kind": "Conv2d", "parameters": 432, "bits": 32, "converted": False, "reason": "1st"},
                {"name": "body", "kind": "Conv2d", "parameters": 9216, "bits": 1.58, "converted": True, "reason": ""},
            ],
            "seconds": 4.0 + own.random(), "device": "cpu", "machine": MACHINE,
            "bytes_per_token": 3.1 if text else None, "versions": {"torch": "2.14.1"},
        }  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))


def aggregated(folder: Path, fake: Fake) -> Path:
    """Write fake runs and aggregate them; returns the folder."""
    design = fake.write(folder)
    paths = {"results": folder, "verdicts": folder / f"verdicts/{fake.study}.json", "tables": folder / "tables"}
    assert aggregate.run(Namespace(study=fake.study, design=design, **paths)) == 0
    return folder


def _key(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _spec(task: str, arm: str, seed: int, text: bool) -> dict:
    return {
        "task": task, "arm": arm, "seed": seed, "device": "cpu",
        "dataset": "stdlib_text" if text else "digits", "model": {"name": "gpt" if text else "resnet18"},
        "softmax": SOFTMAX.get(arm, {"name": "base_e", "temperature": 1.0}), "softmax_where": "both",
        "loss": {"scale": "ln2" if arm == "loss_ln2" else 1.0, "label_smoothing": 0.0},
    }  # fmt: skip
