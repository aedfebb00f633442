"""Optimizer with its weight-decay groups, and the schedules of learning rate and weight decay."""

import math

import torch
from torch import nn

from lowbit.layers.convert import bit_layers
from lowbit.spec import Training

_UNDECAYED = ("positions", "class_token", ".wpe.")  # the last is GPT-2's embedding of positions


def decay_groups(model: nn.Module, train: Training) -> list[dict]:
    """Parameters in two groups: weight decay acts on matrices and kernels, not on norms, biases and positions.

    Latent weights belong to the first group or, with `decay_latent` off, to the second.
    """
    latent = {id(layer.weight) for layer in bit_layers(model).values()} if not train.decay_latent else set()
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim >= 2 and not any(part in name for part in _UNDECAYED)
        groups[decays and id(parameter) not in latent].append(parameter)
    return [
        {"params": groups[decays], "weight_decay": train.weight_decay if decays else 0.0}
        for decays in (True, False)
        if groups[decays]
    ]


def build_optimizer(model: nn.Module, train: Training) -> torch.optim.Optimizer:
    """The optimizer of a recipe, in PyTorch's fused form."""
    groups = decay_groups(model, train)
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=train.lr, betas=(train.beta1, train.beta2), eps=train.eps, fused=True)


def lr_factor(step: int, steps: int, steps_per_epoch: int, train: Training) -> float:
    """Learning rate of an optimizer step over the peak.

    Args:
        step: counted from 0.
        steps: of the whole run.
        steps_per_epoch: of an epoch.
        train: the recipe. `two_stage` is BitNet's: linear decay to 0, with the second half lowered by `step_factor`.
    """
    warmup = round(train.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    final = train.final_lr_fraction
    match train.scheduler:
        case "constant":
            return 1.0
        case "cosine":
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            return final + (1 - final) * (1 - progress)
        case "step":
            return train.step_factor ** int(step / (train.step_epochs * steps_per_epoch))
        case "two_stage":
            return (1 - progress) * (1.0 if step < steps / 2 else train.step_factor)
    raise AssertionError(train.scheduler)


class Schedule:
    """Learning rate through `torch.optim.lr_scheduler`, and weight decay: BitNet's two stages end it at half time.

    Args:
        optimizer: whose groups are set.
        train: the recipe.
        steps: of the whole run.
        steps_per_epoch: of an epoch.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, train: Training, steps: int, steps_per_epoch: int):
        self.optimizer = optimizer
        self.ends_decay_at = steps / 2 if train.scheduler == "two_stage" else math.inf
        self.lr = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: lr_factor(step, steps, steps_per_epoch, train)
        )

    def step(self) -> None:
        """Set learning rate and weight decay of the next optimizer step."""
        self.lr.step()
        if self.lr.last_epoch >= self.ends_decay_at:
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.0
