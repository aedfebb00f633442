"""Run folders of training in several processes, with times and bytes of known size, without training anything."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lowbit.spec import RunSpec

MACHINE = {"processor": "a chip", "threads": 1, "gpu": None}
PARAMETERS, STEPS = 1_000_000, 60
STEP_MS = {"noop": 40.0, "allreduce": 100.0, "sparse": 55.0, "bf16": 70.0}


def arm(method: str = "sparse", compressor: str = "hggtopk", density: float = 0.01, **more: Any) -> dict[str, Any]:
    """The exchange of an arm."""
    sparse = {"compressor": {"name": compressor}, "density": density} if method == "sparse" else {}
    return {"method": method, **sparse, **more}


@dataclass
class Fake:
    """What the written runs are like.

    Args:
        tasks: task -> its arms; an arm is the exchange's settings, None for one process.
        seeds: of every arm.
        gain: compressor -> points of accuracy, or per cent of perplexity, added to its final measure.
    """

    tasks: dict[str, list[dict[str, Any] | None]]
    seeds: int = 3
    gain: dict[str, float] = field(default_factory=dict)

    def write(self, root: Path) -> Path:
        """Write every run folder below a folder, and return it."""
        for task, arms in self.tasks.items():
            for number, exchange in enumerate(arms):
                for seed in range(self.seeds):
                    self._run(root / f"{task}-{number}" / f"seed{seed}", task, exchange, seed)
        return root

    def _run(self, folder: Path, task: str, exchange: dict[str, Any] | None, seed: int) -> None:
        text = task.endswith("gpt")
        spec = RunSpec.model_validate(
            {"task": task, "seed": seed, "dataset": "stdlib_text" if text else "digits", "exchange": exchange,
             "model": {"name": "gpt" if text else "resnet18"}}
        ).model_dump(mode="json")  # fmt: skip
        draws = np.random.default_rng([seed, len(task)])
        method = exchange["method"] if exchange else "alone"
        named = exchange["compressor"]["name"] if method == "sparse" else method
        final = 1.0 + 0.02 * draws.normal() - self.gain.get(named, 0.0) / 100
        unit, step_seconds = ("tokens" if text else "samples"), STEP_MS.get(method, 80.0) / 1e3
        lines = []
        for step in range(1, STEPS + 1):
            loss = final + 2.0 * math.exp(-step / 12)
            record = {"type": "step", "step": step, "epoch": step / 20, "loss": loss, "accuracy": 1 / (1 + loss)}
            record |= {unit: 64, "gradient_norm": 1.0, "clipped": False}
            if text:
                record["perplexity"] = math.exp(loss)
            if step % 4 == 0:
                record[f"{unit}_per_second"] = 64 / step_seconds
            if exchange:
                record |= {"step_seconds": step_seconds, "wire_bytes": 8}
            lines.append(record)
            if step % 20 == 0:
                evaluation = {
                    k: v for k, v in record.items() if k in ("step", "epoch", "loss", "accuracy", "perplexity")
                }
                lines.append({"type": "evaluation", "split": "validation", **evaluation})
        last = {k: lines[-1][k] for k in ("loss", "accuracy", "perplexity") if k in lines[-1]}
        summary = {
            "metric": "perplexity" if text else "accuracy", "unit": unit, "test": {"last": last, "best": last},
            "steps": STEPS, "parameters": PARAMETERS, "seconds": 5.0, "device": "cpu", "machine": MACHINE,
        }  # fmt: skip
        if exchange:
            summary["exchange"] = _measured(spec["exchange"], step_seconds)
        folder.mkdir(parents=True)
        (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "spec.json").write_text(json.dumps(spec))
        (folder / "summary.json").write_text(json.dumps(summary))


def _measured(exchange: dict[str, Any], step: float) -> dict[str, Any]:
    ranks, method = exchange["ranks"], exchange["method"]
    dense = 8 * (ranks - 1) * PARAMETERS
    share = {"noop": 0.0, "allreduce": 1.0, "sparse": ranks * exchange["density"]}.get(method, 0.5)
    parts = {"compress": 0.006, "communicate": 0.012, "decompress": 0.002} if method == "sparse" else {}
    seconds = dict.fromkeys(("compress", "communicate", "decompress"), 0.0) | parts
    seconds |= {"forward": 0.010, "backward": step - 0.015, "update": 0.003, "step": step}
    return {
        "ranks": ranks, "steps": STEPS, "wire_bytes": share * dense * STEPS, "dense_wire_bytes": dense * STEPS,
        "messages": 3, "entries_sent": exchange["density"], "parameters": PARAMETERS, "seconds": seconds,
    }  # fmt: skip
