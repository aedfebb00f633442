"""Tiny specs, and ways to follow and stop their runs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lowbit.spec import RunSpec
from lowbit.train.assemble import Run, assemble
from lowbit.train.events import Evaluated, Event, RunFinished, StateReady, StepsFinished
from lowbit.train.loop import train
from lowbit.train.parallel import Ranks
from lowbit.train.state import TrainState

MODELS = {
    "resnet18": {"name": "resnet18", "width": 8},
    "vit": {"name": "vit", "patch": 4, "depth": 1, "width": 16, "heads": 2, "mlp_ratio": 2},
    "gpt": {"name": "gpt", "depth": 1, "width": 16, "heads": 2, "mlp_ratio": 2},
}
VOLATILE = {"samples_per_second", "tokens_per_second", "memory_bytes"}


def small_spec(model: str, **settings: Any) -> RunSpec:
    """A spec that runs in a fraction of a second; the settings of `train` and `record` are laid over small ones."""
    train = {"epochs": 2, "batch_size": 16, "lr": 0.01} | settings.pop("train", {})
    record = {"ternary_every_steps": 3} | settings.pop("record", {})
    dataset = "text" if model == "gpt" else "images"
    return RunSpec(model=MODELS[model], dataset=dataset, context=16, train=train, record=record, **settings)


def changed(spec: RunSpec, **settings: Any) -> RunSpec:
    """The spec with other settings; mappings are laid over those it has."""
    raw = spec.model_dump(mode="json")
    for key, value in settings.items():
        nested = isinstance(value, dict) and "name" not in value and raw[key] is not None
        raw[key] = {**raw[key], **value} if nested else value
    return RunSpec.model_validate(raw)


@dataclass
class Followed:
    """What a run told on its way."""

    run: Run
    records: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def losses(self) -> list[float]:
        return [record["loss"] for record in self.records]

    def note(self, event: Event) -> None:
        match event:
            case StepsFinished():
                self.records += event.records
            case Evaluated():
                self.evaluations.append(event.record)
            case RunFinished():
                self.results = event.results


def follow(spec: RunSpec, folder: Path, ranks: Ranks | None = None) -> Followed:
    """Run a spec to its end in this process, without files."""
    followed = Followed(assemble(spec, folder, ranks))
    for event in train(followed.run):
        followed.note(event)
    return followed


def until(events: Iterator[Event], step: int) -> Iterator[Event]:
    """The events up to the first state at or after a step."""
    for event in events:
        yield event
        if isinstance(event, StateReady) and event.state.step >= step:
            return


def lasting(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what differs between two runs of the same spec."""
    return {k: value for k, value in record.items() if k not in VOLATILE and not k.endswith("_seconds")}


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lasting part of each line of events.jsonl."""
    return [lasting(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def tensors_of(state: TrainState) -> dict[str, torch.Tensor]:
    """Every tensor that a run must remember: weights, moments, best weights, codes."""
    tensors = {f"model.{name}": t for name, t in state.model.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": t for name, t in moments.items() if torch.is_tensor(t)}
    tensors |= {f"best.{name}": t for name, t in state.best_weights.items()}
    tensors |= {f"codes.{name}": t for name, t in state.dynamics.codes.items()}
    return {name: t.detach().clone() for name, t in tensors.items()}


def assert_identical(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Names, dtypes and every bit."""
    assert one.keys() == other.keys()
    different = [n for n in one if one[n].dtype != other[n].dtype or not torch.equal(one[n], other[n])]
    assert not different, f"differ: {different}"
