"""Runs of the compressor study with known numbers: times follow a law, selections a rule."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SIZES = (10_000, 100_000, 1_000_000)
DENSITIES = (0.01, 0.05)
STEPS = 6
AXES = {
    "bins": {"compressor.num_bins": [16, 1024]},
    "beta": {"compressor.beta": [0.5]},
    "history": {"compressor.history": [False]},
}
MAIN = ("topk", "hggtopk", "hggtopk_inexact", "gaussian", "redsync", "dgcsampling", "sidco")
REFERENCES = ("gaussian_reference", "redsync_reference", "dgcsampling_reference")


@dataclass(frozen=True)
class Fake:
    """What the runs found.

    Args:
        faster: arm -> times faster than torch.topk, by number of entries.
        exponent: arm -> how its time grows with N; 1 by default.
        percent: arm -> percent of a training step.
        error: arm -> threshold error.
        sent: arm -> nnz / k.
        spread: of every number between repetitions, relative.
        without: arms that were not measured.
        seeds: of the traces.
        on_gpu: factor on all times faster there; None for no GPU.
    """

    faster: dict[str, dict[int, float]] = field(default_factory=dict)
    exponent: dict[str, float] = field(default_factory=dict)
    percent: dict[str, float] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)
    spread: float = 0.01
    without: tuple[str, ...] = ()
    seeds: int = 3
    on_gpu: float | None = None

    @property
    def tasks(self) -> list[str]:
        """Runs of the study."""
        return ["speed", *(["speed_cuda"] if self.on_gpu else []), "quality"]

    def write(self, results: Path) -> None:
        """Write both run folders."""
        draw = np.random.default_rng(0)
        arms = [arm for arm in (*MAIN, *REFERENCES, *AXES) if arm not in self.without]
        timed = [arm for arm in (*MAIN, *AXES) if arm in arms]
        lines = {"quality": [line for arm in arms for line in self._selections(arm, draw)]}
        lines["quality"] += [line for i, arm in enumerate(MAIN) if arm in arms for line in self._costs(arm, i)]
        for task in self.tasks[:-1]:
            factor = 1.0 if task == "speed" else self.on_gpu
            lines[task] = [line for arm in (*timed, *_COMPARED) for line in self._times(arm, draw, factor)]
            lines[task] += [self._step(arm, draw) for arm in MAIN if arm in arms]
        for task in self.tasks:
            folder = results / "compressor" / task
            folder.mkdir(parents=True)
            (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[task]))
            spec = {"study": "compressor", "task": task, "order": arms, "arms": {arm: _arm(arm) for arm in arms}}
            (folder / "spec.json").write_text(json.dumps(spec))
            gpu = task == "speed_cuda"
            machine = {"processor": "a chip", "threads": 1, "gpu": "a card" if gpu else None}
            summary = {"device": "cuda" if gpu else "cpu", "machine": machine}
            (folder / "summary.json").write_text(json.dumps(summary))

    def _around(self, value: float, draw: np.random.Generator) -> float:
        return float(value * np.exp(self.spread * draw.standard_normal()))

    def _times(self, arm: str, draw: np.random.Generator, factor: float):
        for n in SIZES if arm not in AXES else (100_000,):
            for density in DENSITIES if n != 100_000 else (0.001, *DENSITIES):
                for kind in ("normal", "real"):
                    place = {"arm": arm, "n": n, "density": density, "input": kind, "k": int(n * density)}
                    for variant in variants(arm):
                        yield {"type": "timing", "variant": variant, **place, **self._metrics(arm, n, draw, factor)}

    def _metrics(self, arm: str, n: int, draw: np.random.Generator, factor: float) -> dict[str, float]:
        metrics = {"nnz_over_k": 1.0, "threshold_error": 0.0, "energy_captured": 0.5, "recall": 1.0, "rounds": 9.0}
        medians = {
            "ratio_to_topk": self._around(factor * self.faster.get(arm, {}).get(n, 2.0), draw),
            "ratio_to_floor": 3.0,
            "milliseconds": self._around((n / 1e5) ** self.exponent.get(arm, 1.0), draw),
        }
        for name, value in medians.items():
            metrics |= {name: value, f"{name}_quartile_low": 0.9 * value, f"{name}_quartile_high": 1.1 * value}
        return metrics

    def _step(self, arm: str, draw: np.random.Generator):
        percent = [self._around(self.percent.get(arm, 12.0), draw) for _ in range(5)]
        place = {"arm": arm, "variant": "", "density": 0.01, "n": 1000, "layers": 6}
        return {"type": "overhead", **place, "percent": percent, "milliseconds": 1.0, "step_milliseconds": 50.0}

    def _selections(self, arm: str, draw: np.random.Generator):
        sources = {
            "normal": [("normal", 1000)],
            "student_t2": [("student_t2", 1000)],
            "real": [("first", 72), ("last", 4000)],
        }
        for seed in range(self.seeds):
            for density in DENSITIES if arm not in AXES else DENSITIES[:1]:
                for variant in variants(arm):
                    for kind, named in sources.items():
                        for source, n in named:
                            sent = [self._around(self.sent.get(arm, 1.0), draw) for _ in range(STEPS)]
                            error = [self.error.get(arm, 0.0)] * STEPS
                            place = {"arm": arm, "variant": variant, "seed": seed, "density": density, "input": kind}
                            lists = {"nnz_over_k": sent, "threshold_error": error, "energy_captured": [0.5] * STEPS}
                            lists |= {"recall": [0.9] * STEPS}
                            if arm in ("hggtopk", "history"):
                                lists["hit"] = [0.0] + [float(arm == "hggtopk")] * (STEPS - 1)
                            k = max(1, int(n * density))
                            yield {"type": "selections", **place, "source": source, "n": n, "k": k, **lists}

    @staticmethod
    def _costs(arm: str, number: int):
        place = {"arm": arm, "variant": "", "density": 0.01}
        for n in (1000, 100_000):
            yield {"type": "memory", **place, "n": n, "k": n // 100, "extra_bytes": 4 * n + number, "kept_bytes": 4 * n}
        counts = {"passes": 1 + number, "bytes_per_entry": 12.0, "host_waits": number, "exact": arm == "topk"}
        yield {"type": "passes", **place, "n": 1_000_000, **counts}


_COMPARED = ("torch_topk", "torch_topk_sorted", "floor")


def variants(arm: str) -> list[str]:
    """Points of the axes of an arm, in words."""
    return [f"{p.partition('.')[2]} {str(v).lower()}" for p, vs in AXES.get(arm, {}).items() for v in vs] or [""]


def _arm(name: str) -> dict:
    grids = None if name in MAIN else []
    variant = name.removesuffix("_reference") if name in (*MAIN, *REFERENCES) else "hggtopk"
    return {
        "compressor": {"name": variant},
        "feedback": {"name": "residual"},
        "grids": grids,
        "axes": AXES.get(name, {}),
    }
