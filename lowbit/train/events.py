"""The events of a run. The loop, in pseudocode:

    yield RunStarted
    for each optimizer step:
        for each micro-batch: forward, backward
        yield GradientsReady                 (only when a listener asked for gradients)
        clip, update
        every `log_every` steps, and before what follows:
            read the pending losses from the device; yield StepsFinished; stop at the first NaN with RunFailed
        when an evaluation is due: yield Evaluated, or stop with RunFailed
        yield StateReady                     (weights and optimizer agree with everything yielded so far)
    evaluate the test split once; yield RunFinished

An event is data; what is done with it is the listeners' business. Losses are nats per sample or per token.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from lowbit.spec import RunSpec
    from lowbit.train.state import TrainState


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """Before the first step, also of a resumed run.

    Args:
        spec: what is run.
        steps: optimizer steps of the whole run.
        first_step: steps already done by an interrupted earlier attempt.
        metric: "accuracy" or "perplexity".
        unit: what throughput counts: "samples" or "tokens".
    """

    spec: "RunSpec"
    steps: int
    first_step: int
    metric: str
    unit: str


@dataclass(frozen=True, kw_only=True)
class GradientsReady:
    """After backward and before clipping; the parameters carry their gradients."""

    step: int
    model: "nn.Module"


@dataclass(frozen=True, kw_only=True)
class StepsFinished:
    """A window of optimizer steps whose numbers have been read from the device.

    Args:
        records: one per step: step, epoch, loss, accuracy (and perplexity for text), lr, weight_decay, gradient_norm
            (before clipping), clipped, samples (or tokens) in the step; the last one of the window also has
            samples_per_second (or tokens_per_second), memory_bytes and, for a quantized model, zero_fraction and
            flip_rate (fraction of codes changed per step since the last window). Where ranks exchange gradients, each
            also has wire_bytes, messages, entries_sent and seconds of the parts of a step: docs/distributed.md.
    """

    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A full pass over the validation split.

    Args:
        record: step, epoch, split, loss, accuracy (and perplexity for text).
        best: whether this is the best validation loss so far.
    """

    record: dict[str, Any]
    best: bool


@dataclass(frozen=True, kw_only=True)
class StateReady:
    """The run may be stopped here and resumed from this state."""

    state: "TrainState"
    best: bool


@dataclass(frozen=True, kw_only=True)
class RunFinished:
    """After the last step and the one reading of the test split.

    Args:
        results: per weights ("last", "best"): test loss, accuracy, and perplexity for text.
    """

    state: "TrainState"
    results: dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class RunFailed:
    """The loss, its gradient or the validation loss became NaN or infinite at a step; nothing later is written."""

    step: int
    loss: float


Event = RunStarted | GradientsReady | StepsFinished | Evaluated | StateReady | RunFinished | RunFailed
