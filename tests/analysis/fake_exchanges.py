"""Runs of several processes with known bytes, times and accuracies: those of `fake_runs`, and what an exchange adds."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import fake_runs
import numpy as np

from lowbit.exchange_spec import Exchange

PARAMETERS, RANKS, STEPS = 1_000_000, 2, 60
DENSE_BYTES = 2 * (RANKS - 1) * 4 * PARAMETERS
_BOTH, _DENSITIES = ("topk", "hggtopk"), (0.01, 0.05, 0.1)
ARMS = {
    "allreduce": {"method": "allreduce"},
    "none": {"compressor": {"name": "none"}, "feedback": {"name": "none"}},
    "bf16": {"method": "bf16"},
    "noop": {"method": "noop"},
    **{f"{c}-density{d:g}": {"compressor": {"name": c}, "density": d} for c in _BOTH for d in _DENSITIES},
    "hggtopk_waits": {"density": 0.05, "pipeline": False},
    "topk2": {"compressor": {"name": "topk"}, "feedback": {"name": "none"}},
    "randomkec": {"compressor": {"name": "randomk"}, "density": 0.05},
}
CONTROLS = {
    "none": "allreduce",
    "hggtopk_waits": "hggtopk-density0.05",
}
MILLISECONDS = {"forward": 4.0, "backward": 6.0, "update": 1.0}


@dataclass
class Fake(fake_runs.Fake):
    """What the written runs are like, beside what `fake_runs.Fake` says of accuracy.

    Args:
        exposed: arm -> milliseconds that the exchange adds to a step.
        compress: arm -> milliseconds of compressing, of which as many again of decompressing are a tenth.
        wobble: relative spread of every time between seeds.
        alone: what a run tells of its own times, as a factor.
    """

    study: str = "exchange"
    baseline: str = "allreduce"
    treatment: str = "hggtopk-density0.01"
    tasks: dict[str, int] = field(default_factory=lambda: {"digits_parallel": 4})
    arms: tuple[str, ...] = tuple(ARMS)
    controls: dict[str, str] = field(default_factory=lambda: dict(CONTROLS))
    norm: dict[str, float] = field(default_factory=dict)
    steps: int = STEPS
    noise: float = 0.3
    exposed: dict[str, float] = field(default_factory=dict)
    compress: dict[str, float] = field(default_factory=dict)
    wobble: float = 0.01
    alone: float = 3.0

    def write(self, results: Path) -> str:
        """Write every run folder and return the design as JSON."""
        design = super().write(results)
        for task, seeds in self.tasks.items():
            timed = {}
            for arm in self.arms:
                runs = {seed: results / self.study / task / arm / f"seed{seed}" for seed in range(seeds)}
                timed[arm] = {seed: self._add(folder, arm, seed) for seed, folder in runs.items()}
            folder = results / "timing" / task
            folder.mkdir(parents=True)
            (folder / "summary.json").write_text(json.dumps({"seconds": timed}))
        return design

    def _add(self, folder: Path, arm: str, seed: int) -> dict[str, float]:
        """Give a run what an exchange adds, and return the seconds of its step beside the others."""
        settings = Exchange(**ARMS[arm])
        draw = np.random.default_rng([seed, self.arms.index(arm)])
        around = {part: value * (1 + self.wobble * draw.standard_normal()) for part, value in MILLISECONDS.items()}
        exposed = 0.0 if settings.method == "noop" else self.exposed.get(arm, 2.0)
        compress = self.compress.get(arm, 0.5) if settings.method == "sparse" else 0.0
        communicate = 1.0 if settings.method == "sparse" else 0.0  # what clocks of PyTorch's hooks would say
        parts = around | {"compress": compress, "communicate": communicate, "decompress": 0.1 * compress}
        parts["backward"] += exposed
        parts["step"] = sum(parts[part] for part in MILLISECONDS) + 0.5
        sent = _sent(settings)
        summary = {
            "ranks": RANKS, "steps": self.steps, "parameters": PARAMETERS, "messages": 0 if sent == 0 else 4,
            "wire_bytes": self.steps * sent * DENSE_BYTES, "dense_wire_bytes": self.steps * DENSE_BYTES,
            "bytes_in_row": self.steps * sent * DENSE_BYTES / RANKS,
            "entries_sent": settings.density if settings.method == "sparse" else float(sent > 0),
            "seconds": {part: self.alone * value / 1000 for part, value in parts.items()},
        }  # fmt: skip
        for name, content in (("spec.json", settings.model_dump(mode="json")), ("summary.json", summary)):
            whole = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(whole | {"exchange": content}))
        return {part: value / 1000 for part, value in parts.items()}


def _sent(settings: Exchange) -> float:
    """Bytes of a step over those of a dense float32 all-reduce: values and indices of both ranks to one another."""
    if settings.method != "sparse":
        return {"noop": 0.0, "bf16": 0.5}.get(settings.method, 1.0)
    return 1.0 if settings.compressor.name == "none" else 2 * settings.density
