"""The training loop against the barest PyTorch loop that trains the same weights; `ratio` is ours / barest.

Ours also checks for divergence and writes loss, accuracy and gradient norm of every step to events.jsonl. The barest
loop indexes images in memory, normalises them, and does nothing more than forward, loss, backward and update.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lowbit import catalog
from lowbit.benchmarks._timing import Row, WrongResultError, ratio_rows, seconds_side_by_side
from lowbit.spec import RunSpec
from lowbit.train.assemble import Run, assemble
from lowbit.train.events import StepsFinished
from lowbit.train.listeners._base import Listeners
from lowbit.train.listeners.jsonl import JsonLines
from lowbit.train.loop import train
from lowbit.train.machine import keep_freed_memory
from lowbit.train.reproducibility import generator, make_deterministic

STEPS = 5
_TRAINING = {
    "epochs": 1000,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.01,
    "scheduler": "constant",
    "evaluations_per_epoch": 1e-3,
}
_LOW_BIT = {"weight": {"name": "ternary_absmean"}}
CASES = {
    "resnet18 width 16": {"model": {"name": "resnet18", "width": 16}, "quantization": _LOW_BIT},
    "vit depth 2 width 128": {
        "model": {"name": "vit", "patch": 2, "depth": 2, "width": 128, "heads": 4},
        "quantization": _LOW_BIT | {"activation": {"name": "int8_absmax"}},
    },
}


def cases(quick: bool) -> Iterator[Row]:
    """Measure every case.

    Args:
        quick: fewer rounds.

    Raises:
        WrongResultError: when the two loops do not train the same weights.
    """
    make_deterministic(torch.get_num_threads())
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "digits"
        catalog.build("data", {"name": "digits"}).prepare(data)
        for name, settings in CASES.items():
            spec = RunSpec(train=_TRAINING, record={"ternary_every_steps": 10**9}, **settings)
            ours, barest = assemble(spec, data), assemble(spec, data)
            contestants = {"ours": _ours(ours, Path(folder) / f"{name}.jsonl"), "barest": _barest(barest)}
            for work in contestants.values():
                work()
            _demand_equal(name, ours, barest)
            seconds = seconds_side_by_side(contestants, 12 if quick else 60)
            yield from ratio_rows(name, seconds["ours"], seconds["barest"])


def _ours(run: Run, path: Path):
    listeners = Listeners([JsonLines(path)])
    events = train(run, lambda: listeners.want_gradients)

    def steps() -> None:
        done = 0
        while done < STEPS:
            event = next(events)
            listeners.handle(event)
            done += isinstance(event, StepsFinished)

    return steps


def _barest(run: Run):
    model, optimizer = run.state.model, run.state.optimizer
    shuffle = generator(run.spec.seed, "order", 0)
    images = torch.from_numpy(np.array(run.batches.arrays["train"]["images"]))
    labels = torch.from_numpy(np.array(run.batches.arrays["train"]["labels"]))
    mean, inv_std = run.batches.mean, run.batches.inv_std
    size, order, position = run.spec.train.batch_size, torch.empty(0, dtype=torch.int64), 0

    def steps() -> None:
        nonlocal order, position
        model.train()
        for _ in range(STEPS):
            if not len(order) or position + size > len(labels):
                order, position = torch.randperm(len(labels), generator=shuffle), 0
            which = order[position : position + size]
            inputs = ((images[which].float() - mean) * inv_std).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(inputs), labels[which])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            position += size

    return steps


def _demand_equal(name: str, ours: Run, barest: Run) -> None:
    for key, tensor in ours.state.model.state_dict().items():
        if not torch.allclose(tensor, barest.state.model.state_dict()[key], rtol=1e-3, atol=1e-4):
            raise WrongResultError(f"{name}: after {STEPS} steps {key} differs between the loops; no speed is reported")
