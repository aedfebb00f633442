"""Arms as partial tasks: their axes, how they are laid over a task, and which settings could not change its result."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lowbit import catalog, config_exchange
from lowbit.spec import NAME_PATTERN, Task, Trainable

_IMAGES_ONLY = ("mixup", "crop_padding", "horizontal_flip")
_KINDS = {"ImageModel": "images", "ImageDataset": "images", "TextModel": "text", "TextDataset": "text"}
_NEEDS = {
    "momentum": ("optimizer", ("sgd",)),
    "beta1": ("optimizer", ("adamw",)),
    "beta2": ("optimizer", ("adamw",)),
    "eps": ("optimizer", ("adamw",)),
    "step_epochs": ("scheduler", ("step",)),
    "step_factor": ("scheduler", ("step", "two_stage")),
    "final_lr_fraction": ("scheduler", ("cosine", "linear")),
}
AXES = tuple(f"{name}." for name in Trainable.model_fields)
"""What an axis of an arm of training may begin with."""


def points(arms: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Arms at every point of their axes: a name of its own, and the partial task.

    Example:
        >>> list(points({"topk": {"axes": {"exchange.density": [0.01]}}}))
        [('topk-density0.01', {'exchange': {'density': 0.01}})]
    """
    for name, arm in arms.items():
        axes = arm.get("axes", {})
        for values in itertools.product(*axes.values()):
            words, point = [name], {key: content for key, content in arm.items() if key != "axes"}
            for place, value in zip(axes, values, strict=True):
                *groups, setting = place.split(".")
                words.append(setting + (f"{value:g}" if isinstance(value, float) else str(value).lower()))
                nested: Any = {setting: value}
                for group in reversed(groups):
                    nested = {group: nested}
                point = laid_over(point, nested)
            yield "-".join(words), point


def faults_of_points(arms: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Names that points of axes cannot have, as `arm: why`."""
    counts = Counter(name for name, _ in points(arms))
    for name, count in counts.items():
        if count > 1 or not re.match(NAME_PATTERN, name):
            why = "two arms have this name" if count > 1 else f"is no name of a folder, which is {NAME_PATTERN}"
            yield f"{name}: {why} at a point of their axes; rename an arm, or make arms of the values"


def laid_over(task: dict[str, Any], arm: dict[str, Any]) -> dict[str, Any]:
    """An arm laid over a task: mappings merge, and a variant with another `name` replaces the old one whole."""
    result = dict(task)
    for key, value in arm.items():
        old = result.get(key)
        nested = isinstance(value, dict) and isinstance(old, dict)
        same_variant = nested and value.get("name", old.get("name")) == old.get("name")
        result[key] = laid_over(old, value) if same_variant else value
    return result


def kind_of(dataset: str) -> str:
    """What a dataset's variant has: "images" or "text"."""
    return _KINDS[catalog.base_class("data", dataset)]


def mismatch(task: Task, dataset: str) -> Iterator[str]:
    """A model that cannot read its dataset, as `key: why`.

    Args:
        task: with a model and the name of a dataset.
        dataset: the dataset's variant name.
    """
    reads = _KINDS[catalog.base_class("models", task.model.name)]
    has = kind_of(dataset)
    if reads != has:
        yield f"model: {task.model.name} reads {reads}, but dataset {task.dataset} has {has}; change one of them"


def no_effect(task: Task, arm: dict[str, Any], dataset: str) -> Iterator[str]:
    """Settings of an arm that its task does not have: they would make a no-op look like a variant.

    Args:
        task: the task with the arm laid over it.
        arm: the arm as written.
        dataset: the dataset's variant name.

    Yields:
        `path: why`, relative to the arm.
    """
    train = arm.get("train", {})
    images = kind_of(dataset) == "images"
    for key in _IMAGES_ONLY:
        if key in train and not images:
            yield f"train.{key}: acts on images only, and dataset {task.dataset} is text; remove it"
    if "context" in arm and images:
        yield f"context: acts on text only, and dataset {task.dataset} has images; remove it"
    for key, (decider, values) in _NEEDS.items():
        actual = getattr(task.train, decider)
        if key in train and actual not in values:
            yield f"train.{key}: has no effect with {decider} {actual}; it needs {decider}: {' or '.join(values)}"
    yield from config_exchange.no_effect(task.exchange, arm.get("exchange"))
    if "pretrain" in arm:
        yield "pretrain: belongs to the task, whose checkpoint all arms share that start from it; set it there"
    attends = catalog.PACKAGE / "layers/attention.py" in catalog.sources(f"models/{task.model.name}.py")
    if arm.get("softmax_where") in ("attention", "both") and not attends:
        advice = "use loss, or restrict the arm with `tasks: [...]`"
        yield f"softmax_where: model {task.model.name} has no attention; {advice}"
