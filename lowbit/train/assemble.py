"""From names to objects: the only place where a spec's names are resolved. Below it, code gets objects."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from lowbit import catalog
from lowbit.data._base import DataError, check
from lowbit.errors import SettingError
from lowbit.layers.convert import ConversionRules, LayerRecord, convert
from lowbit.models._base import ImageModel, TextModel
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.softmaxes.base_e import BaseE
from lowbit.spec import RunSpec
from lowbit.train.batches import Batches, batches
from lowbit.train.checkpoint import load_weights
from lowbit.train.optimizers import Schedule, build_optimizer
from lowbit.train.parallel import GradientExchange, Ranks, with_shared_statistics
from lowbit.train.reproducibility import derived_seed
from lowbit.train.state import TrainState
from lowbit.train.ternary_dynamics import TernaryDynamics
from lowbit.variant import number

_VECTOR = 8  # float32 numbers that AVX2 computes with at once


@dataclass
class Run:
    """A run ready for its loop.

    Args:
        spec: what it is.
        state: what changes.
        batches: its data.
        softmax: the loss's.
        loss_scale: factor on the training loss.
        ranks: this process among its peers.
        table: what the conversion did, layer by layer.
        autocast: makes the context of a forward pass.
        exchange: of gradients with other processes, where the spec has one.
    """

    spec: RunSpec
    state: TrainState
    batches: Batches
    softmax: ExponentialSoftmax
    loss_scale: float
    ranks: Ranks
    table: list[LayerRecord]
    autocast: Callable[[], contextlib.AbstractContextManager]
    exchange: GradientExchange | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return max(1, round(self.spec.train.epochs * self.batches.steps_per_epoch))

    @property
    def unit(self) -> str:
        """What a target is: "samples" or "tokens"."""
        return self.batches.unit

    @property
    def metric(self) -> str:
        """Headline metric: "accuracy", or "perplexity" for text."""
        return "perplexity" if self.unit == "tokens" else "accuracy"


def assemble(spec: RunSpec, data_folder: Path, ranks: Ranks | None = None) -> Run:
    """Build everything a run needs.

    Args:
        spec: what to build.
        data_folder: the prepared dataset.
        ranks: this process among its peers; alone by default.

    Raises:
        DataError: when the dataset is missing or differs from its manifest.
        CheckpointError: when the weights to start from cannot be read.
        SettingError: when model and data, weights to start from, or batches and processes do not fit.
    """
    ranks = ranks or Ranks()
    if spec.exchange and spec.exchange.ranks != ranks.world:
        raise SettingError(
            f"exchange.ranks is {spec.exchange.ranks}, but this is a group of {ranks.world}; `python -m lowbit train` "
            f"starts as many itself, or use `torchrun --nproc-per-node {spec.exchange.ranks}`"
        )
    check(data_folder)
    data = batches(spec, data_folder)
    smallest = min(data.samples, data.samples_per_step)
    if ranks.world > smallest:
        raise SettingError(
            f"{ranks.world} processes share steps of {smallest} samples, so that some have none; use fewer processes "
            "or a larger batch_size"
        )
    softmax = catalog.build("softmaxes", spec.softmax)
    of_attention = softmax if spec.softmax_where in ("both", "attention") else BaseE()
    of_loss = softmax if spec.softmax_where in ("both", "loss") else BaseE()
    model = build_model(spec, data.manifest, of_attention)
    if spec.start_from:
        _start_from(model, Path(spec.start_from))
    table = convert(model, conversion_rules(spec))
    dtype = torch.float64 if spec.train.precision == "float64" else torch.float32
    if not spec.exchange:
        model = with_shared_statistics(model, ranks, spec.device)
    model = model.to(spec.device, dtype)
    if data.unit == "samples":
        data.memory_format = memory_format(model)
        model = model.to(memory_format=data.memory_format)
    optimizer = build_optimizer(model, spec.train)
    run = Run(
        spec=spec,
        state=TrainState(model, optimizer, None, TernaryDynamics(model)),
        batches=data,
        softmax=of_loss,
        loss_scale=number(spec.loss.scale),
        ranks=ranks,
        table=table,
        autocast=_autocast(spec),
    )
    run.state.schedule = Schedule(optimizer, spec.train, run.steps, data.steps_per_epoch)
    return run


def build_model(spec: RunSpec, manifest: dict, softmax: ExponentialSoftmax) -> nn.Module:
    """The freshly initialised full-precision model of a spec; a function of its seed alone."""
    recipe = catalog.build("models", spec.model)
    torch.manual_seed(derived_seed(spec.seed, "initialisation"))
    if manifest["kind"] == "images" and isinstance(recipe, ImageModel):
        shape = tuple(manifest["input_shape"])
        return recipe.build(input_shape=shape, classes=len(manifest["classes"]), softmax=softmax)
    if manifest["kind"] == "text" and isinstance(recipe, TextModel):
        shortest = min(entry["tokens"]["shape"][0] for entry in manifest["splits"].values())
        if shortest < 2 * spec.context + 2:
            raise DataError(
                f"dataset {spec.dataset}: a split of {shortest} tokens is too short for context {spec.context}"
            )
        return recipe.build(vocabulary=manifest["vocabulary"], context=spec.context, softmax=softmax)
    wanted = "images" if isinstance(recipe, ImageModel) else "text"
    raise SettingError(
        f"model {spec.model.name} reads {wanted}, but dataset {spec.dataset} has {manifest['kind']}; change one"
    )


def memory_format(model: nn.Module) -> torch.memory_format:
    """Of images and convolutions: channels last, 1.3 to 1.4 times faster at 32x32 on a CPU, where that is safe.

    oneDNN 3.12 writes beyond its memory on processors with AVX2 alone, in the gradient of the weights of strided
    convolutions of kernel 1 from fewer channels than a vector has numbers, if channels are last.
    """
    narrow = any(
        isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.stride != (1, 1) and m.in_channels < _VECTOR
        for m in model.modules()
    )
    return torch.contiguous_format if narrow else torch.channels_last


def _start_from(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(load_weights(path))
    except RuntimeError as error:
        reasons = " ".join(str(error).split())
        raise SettingError(
            f"start_from {path}: not the weights of such a model before conversion: {reasons}"
        ) from error


def conversion_rules(spec: RunSpec) -> ConversionRules:
    """What a spec asks `convert` to do."""
    q = spec.quantization
    return ConversionRules(
        weight=catalog.build("quantizers", q.weight),
        activation=catalog.build("quantizers", q.activation),
        surrogate=catalog.build("surrogates", q.surrogate),
        norm=q.norm == "rms",
        include=q.include,
        exclude=q.exclude,
    )


def _autocast(spec: RunSpec) -> Callable[[], contextlib.AbstractContextManager]:
    if spec.train.precision == "bfloat16":
        return lambda: torch.autocast(spec.device, dtype=torch.bfloat16)
    return contextlib.nullcontext
