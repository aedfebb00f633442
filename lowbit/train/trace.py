"""Traces: the gradients of consecutive steps of a training run, as it makes them, before clipping.

    <folder>/    gradients.safetensors (`<step>/<parameter>`), spec.json, summary.json, manifest.json

The run ends with the last step that is recorded. One spec, one trace.
"""

import json
import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lowbit import catalog, manifest
from lowbit.atomic import replacing, write_text
from lowbit.compression_spec import TraceSpec
from lowbit.errors import UserError
from lowbit.train.assemble import assemble
from lowbit.train.events import GradientsReady
from lowbit.train.loop import train
from lowbit.train.machine import keep_freed_memory, machine
from lowbit.train.reproducibility import make_deterministic

FILE = "gradients.safetensors"


@dataclass(frozen=True)
class Trace:
    """A recorded trace.

    Args:
        path: its gradients.
        layers: names of parameters, in the order of the model.
        steps: optimizer steps, rising.
    """

    path: Path
    layers: tuple[str, ...]
    steps: tuple[int, ...]

    def of_layer(self, layer: str) -> list[Tensor]:
        """Gradients of a parameter, step after step, each flat."""
        with safe_open(self.path, "pt") as file:
            return [file.get_tensor(f"{step}/{layer}").flatten() for step in self.steps]

    def whole(self) -> list[Tensor]:
        """Gradients of all parameters in a row, step after step, each flat."""
        by_layer = [self.of_layer(layer) for layer in self.layers]
        return [torch.cat(of_step) for of_step in zip(*by_layer, strict=True)]


def read(folder: Path) -> Trace:
    """Open a trace.

    Raises:
        UserError: when there is none.
    """
    try:
        content = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        with safe_open(folder / FILE, "pt"):
            pass
    except (OSError, ValueError) as error:
        again = f"python -m lowbit trace --spec {folder / 'spec.json'} --folder {folder}"
        raise UserError(f"{folder}: no trace of gradients ({error}); record it: {again}") from None
    return Trace(folder / FILE, tuple(content["layers"]), tuple(content["steps"]))


def record(
    spec: TraceSpec, folder: Path, data_folder: Path, progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> None:
    """Train to the last step that is asked for, and write the trace.

    Args:
        spec: of the trace.
        folder: to write.
        data_folder: the prepared dataset.
        progress: wraps the recorded steps (a progress bar).

    Raises:
        UserError: when no parameter has such a name, or the run has fewer steps.
    """
    make_deterministic(spec.run.threads)
    keep_freed_memory()
    run = assemble(spec.run, data_folder)
    names = _chosen(run.state.model, spec.layers)
    last = spec.first_step + spec.steps - 1
    if last > run.steps:
        raise UserError(f"trace {spec.name}: asks for step {last} of a run of {run.steps} steps; raise train.epochs")
    tensors: dict[str, Tensor] = {}
    wanted = iter(progress(range(spec.first_step, last + 1)))
    expected = next(wanted)
    for event in train(run, lambda: True):
        if isinstance(event, GradientsReady) and event.step == expected:
            gradients = {name: p.grad for name, p in event.model.named_parameters() if name in names}
            tensors |= {f"{expected}/{name}": _copy(gradient) for name, gradient in gradients.items()}
            expected = next(wanted, None)
            if expected is None:
                break
    _write(spec, folder, names, tensors)


def _chosen(model: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    every = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in every):
            weights = (name for name in every if re.search(r"weight$", name))
            raise UserError(f"layers: no parameter {pattern!r}: {catalog.suggestion(pattern, weights)}")
    return [name for name in every if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _copy(gradient: Tensor) -> Tensor:
    """In the order of its entries, whatever strides the layer computes with."""
    return gradient.detach().float().cpu().clone(memory_format=torch.contiguous_format)


def _write(spec: TraceSpec, folder: Path, names: list[str], tensors: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / FILE) as temporary:
        save_file(tensors, temporary)
    summary = {
        "layers": {name: tensors[f"{spec.first_step}/{name}"].numel() for name in names},
        "steps": list(range(spec.first_step, spec.first_step + spec.steps)),
        "device": spec.run.device,
        "machine": machine(spec.run),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    write_text(folder / "spec.json", spec.to_json())
    write_text(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    manifest.write(folder)
