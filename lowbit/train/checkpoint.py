"""Checkpoints in one safetensors file each: tensors as tensors, everything else as JSON in its metadata. Nothing is
unpickled.

The file appears whole or not at all. It names the spec, data and code it belongs to, and is refused for any other.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lowbit.atomic import replacing
from lowbit.errors import UserError
from lowbit.train.state import TrainState


class CheckpointError(UserError, ValueError):
    """A checkpoint that is damaged or belongs to another run."""


def weights_sha256(weights: dict[str, Tensor]) -> str:
    """Digest of names, shapes and bytes of a state dict."""
    total = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _own(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors that share no memory, as safetensors wants them."""
    return {n: t.detach().to("cpu").clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write a state dict."""
    with replacing(path) as temporary:
        save_file(_own(weights), temporary)


def load_weights(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Tensor]:
    """Read a state dict, or those of its entries whose names are wanted.

    Raises:
        CheckpointError: when the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if wanted(name)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}; remove it to start afresh") from error


def save_state(state: TrainState, path: Path, identity: dict[str, str], extra: dict[str, Any]) -> None:
    """Write everything that a run needs to go on.

    Args:
        state: of the run.
        path: of the file.
        identity: digests of spec, data and code.
        extra: JSON values of the caller.
    """
    packed = state.optimizer.state_dict()
    moments = {f"optimizer.{i}.{k}": v for i, s in packed["state"].items() for k, v in s.items() if torch.is_tensor(v)}
    plain = {i: {k: v for k, v in s.items() if not torch.is_tensor(v)} for i, s in packed["state"].items()}
    tensors = {f"model.{n}": t for n, t in state.model.state_dict().items()} | moments
    tensors |= {f"best.{n}": t for n, t in state.best_weights.items()}
    tensors |= {f"codes.{n}": t for n, t in state.dynamics.codes.items()}
    content = {
        "identity": identity,
        "step": state.step,
        "epoch": state.epoch,
        "best_loss": state.best_loss,
        "best_step": state.best_step,
        "dynamics_step": state.dynamics.step,
        "optimizer_state": plain,
        "param_groups": packed["param_groups"],
        "lr": {k: v for k, v in state.schedule.lr.state_dict().items() if k != "lr_lambdas"},
        "extra": extra,
    }
    with replacing(path) as temporary:
        save_file(_own(tensors), temporary, metadata={"state": json.dumps(content)})


@dataclass(frozen=True)
class SavedState:
    """A checkpoint in memory.

    Args:
        tensors: of model, optimizer and records.
        content: everything else.
    """

    tensors: dict[str, Tensor]
    content: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.content["step"]


def read_state(path: Path, identity: dict[str, str]) -> SavedState:
    """Read a checkpoint.

    Raises:
        CheckpointError: when the file is damaged or belongs to another spec, other data or other code.
    """
    tensors = load_weights(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if "state" not in metadata:
        raise CheckpointError(f"{path}: holds weights, but not the state of a run; it is not used")
    content = json.loads(metadata["state"])
    if content["identity"] != identity:
        raise CheckpointError(f"{path}: belongs to another spec, other data or other code; it is not used")
    return SavedState(tensors, content)


def restore(state: TrainState, saved: SavedState) -> dict[str, Any]:
    """Put a run back where it was, and return the caller's extra values."""
    tensors, content = saved.tensors, saved.content
    state.model.load_state_dict(_with_prefix(tensors, "model."))
    moments: dict[int, dict[str, Any]] = {int(i): dict(s) for i, s in content["optimizer_state"].items()}
    for name, tensor in _with_prefix(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = tensor
    state.optimizer.load_state_dict({"state": moments, "param_groups": content["param_groups"]})
    _lay_out_like_parameters(state.optimizer)
    lambdas = state.schedule.lr.state_dict()["lr_lambdas"]
    state.schedule.lr.load_state_dict(content["lr"] | {"lr_lambdas": lambdas})
    state.step, state.epoch = content["step"], content["epoch"]
    state.best_loss, state.best_step = content["best_loss"], content["best_step"]
    state.best_weights = _with_prefix(tensors, "best.")
    device = next(state.model.parameters()).device
    state.dynamics.codes = {n: t.to(device) for n, t in _with_prefix(tensors, "codes.").items()}
    state.dynamics.step = content["dynamics_step"]
    return content["extra"]


def _lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Fused kernels walk a parameter and its moments in memory order, so they must have one layout."""
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if torch.is_tensor(moment) and moment.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(moment)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
