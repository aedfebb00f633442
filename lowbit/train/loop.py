"""The training loop: a flat generator of the events that `lowbit.train.events` describes."""

import contextlib
import functools
import itertools
import math
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lowbit.errors import UserError
from lowbit.layers.convert import set_blend, set_progress
from lowbit.train.assemble import Run
from lowbit.train.batches import Batch
from lowbit.train.evaluate import evaluate, results_of
from lowbit.train.events import (
    Evaluated,
    Event,
    GradientsReady,
    RunFailed,
    RunFinished,
    RunStarted,
    StateReady,
    StepsFinished,
)
from lowbit.train.reproducibility import derived_seed, seed_layers

ADVICE = "lower the learning rate, warm up longer or clip gradients"
"""Where a loss or a gradient is not finite."""


class DivergedError(UserError):
    """A loss, or the gradient on which the next one rests, became NaN or infinite.

    Args:
        step: at which.
        quantity: what is not finite.
        value: of it.
    """

    def __init__(self, step: int, quantity: str, value: float):
        super().__init__(f"{quantity} is {value} at step {step}; {ADVICE}")
        self.step = step


def train(run: Run, want_gradients: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Train from the state's step to the end, and evaluate the test split once.

    Args:
        run: what to train; its state is changed in place.
        want_gradients: asked at every step whether to yield `GradientsReady`.

    Raises:
        DivergedError: at the first loss or gradient norm that is not finite, after `RunFailed`.
    """
    spec, state = run.spec, run.state
    recipe, per_epoch = spec.train, run.batches.steps_per_epoch
    evaluate_every = max(1, round(per_epoch / recipe.evaluations_per_epoch))
    parameters = [p for p in state.model.parameters() if p.requires_grad]
    yield RunStarted(spec=spec, steps=run.steps, first_step=state.step, metric=run.metric, unit=run.unit)

    state.model.train()
    exchange = run.exchange
    # Processes that exchange gradients draw apart, as their samples differ; the first draws as one alone would.
    draws = "step" if exchange is None or run.ranks.is_first else f"step of rank {run.ranks.rank}"
    pending: list[tuple[dict[str, Any], list[Tensor]]] = []
    since = time.perf_counter()
    while state.step < run.steps:
        if exchange:
            exchange.begin(state.step + 1)
        # Layers that draw random numbers get those of this step, whether or not the run was interrupted before it.
        seed_layers(derived_seed(spec.seed, draws, state.step), spec.device)
        if spec.quantization.blend_epochs:
            set_blend(state.model, blend_of(run, state.step))
        if hasattr(spec.quantization.surrogate, "progress"):
            set_progress(state.model, state.step / run.steps)
        batch = run.batches.training(state.step)
        loss, correct = forward_backward(run, batch)
        if exchange is None:
            run.ranks.sum_gradients(parameters)
        if want_gradients():
            yield GradientsReady(step=state.step + 1, model=state.model)
        norm = gradient_norm(parameters)
        if recipe.clip_norm:
            nn.utils.clip_grads_with_norm_(parameters, recipe.clip_norm, norm)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        group = state.optimizer.param_groups[0]
        numbers = {"lr": group["lr"], "weight_decay": group["weight_decay"], run.unit: batch.count}
        state.schedule.step()
        state.step += 1
        state.epoch = state.step / per_epoch
        if exchange:
            exchange.clock.lap("update")
            numbers["told"] = exchange.told()
        pending.append(({"step": state.step, "epoch": state.epoch, **numbers}, [loss, correct, norm]))

        last = state.step == run.steps
        evaluation_due = last or state.step % evaluate_every == 0
        if evaluation_due or len(pending) >= spec.record.log_every:
            records = read_from_device(run, pending, time.perf_counter() - since)
            pending, since = [], time.perf_counter()
            sound = tuple(itertools.takewhile(_is_finite, records))
            if sound:
                yield StepsFinished(records=sound)
            if len(sound) < len(records):
                yield from _fail(records[len(sound)])
            best = False
            if evaluation_due:
                result = evaluate_split(run, "validation")
                if not math.isfinite(result["loss"]):
                    yield from _fail({"step": state.step, "validation loss": result["loss"]})
                # Half-quantized weights may have a lower loss than the network that the run ends with can reach.
                if blend_of(run, state.step - 1) == blend_of(run, run.steps - 1):
                    best = state.remember_if_best(result["loss"])
                record = {"step": state.step, "epoch": state.epoch, "split": "validation", **result}
                yield Evaluated(record=record, best=best)
                since = time.perf_counter()
            yield StateReady(state=state, best=best)

    set_blend(state.model, blend_of(run, run.steps - 1))  # as in the last step, also when resumed after it
    yield RunFinished(state=state, results=results_on_test(run))


def blend_of(run: Run, step: int) -> float:
    """Lambda of the quantization warm-up in an optimizer step, counted from 0."""
    epochs = run.spec.quantization.blend_epochs
    return min(1.0, step / run.batches.steps_per_epoch / epochs) if epochs else 1.0


def _is_finite(record: dict[str, Any]) -> bool:
    return math.isfinite(record["loss"]) and math.isfinite(record["gradient_norm"])


def _fail(record: dict[str, Any]) -> Iterator[Event]:
    """Say at which step which quantity is not finite, and end the run."""
    quantity = next(n for n in ("loss", "gradient_norm", "validation loss") if not math.isfinite(record.get(n, 0.0)))
    value = record[quantity]
    yield RunFailed(step=record["step"], loss=record.get("loss", value))
    raise DivergedError(record["step"], quantity.replace("_", " "), value)


def forward_backward(run: Run, batch: Batch) -> tuple[Tensor, Tensor]:
    """Accumulate gradients of a batch in micro-batches, normalised by the targets of the whole batch.

    Returns:
        Sum of losses (nats, unscaled, unsmoothed, float64) and number of correct targets, on the device.
    """
    spec, exchange = run.spec, run.exchange
    model = exchange.model if exchange else run.state.model
    factor = run.loss_scale / batch.count * (exchange.loss_factor if exchange else 1)
    lap = exchange.clock.lap if exchange else _no_lap
    lap("batch")
    mine = batch.part(run.ranks.share(len(batch.inputs)))
    size = spec.train.batch_size
    losses, correct = [], []
    for start in range(0, len(mine.inputs), size):
        part = mine.part(slice(start, start + size))
        with exchange.accumulating(start + size >= len(mine.inputs)) if exchange else contextlib.nullcontext():
            with run.autocast():
                logits = model(part.inputs)
            logits, labels = logits.flatten(0, -2), part.labels.flatten()
            plain_targets = part.targets is part.labels or part.targets.shape == part.labels.shape
            targets = labels if plain_targets else part.targets
            smoothing = spec.loss.label_smoothing
            loss = run.softmax.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
            lap("forward")
            (loss * factor).backward()
            lap("backward")
        with torch.no_grad():
            reported = loss
            if smoothing or not plain_targets:
                reported = run.softmax.cross_entropy(logits, labels, reduction="sum")
            losses.append(reported.double())
            correct.append((logits.argmax(-1) == labels).sum())
        lap("report")
    totals = _total(losses, batch), _total(correct, batch)
    return totals if exchange else tuple(map(run.ranks.sum, totals))


def _no_lap(section: str) -> None:
    """Nobody asks where the time goes."""


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients; the many small ones of norms and biases count as one tensor, a call for all."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    vectors = [g for g in gradients if g.dim() == 1]
    whole = [g for g in gradients if g.dim() != 1]
    # `nn.utils.get_total_norm` calls each norm from Python on a CPU; this is the call that it makes on a GPU.
    norms = torch._foreach_norm([*whole, torch.cat(vectors)] if vectors else whole)
    return torch.linalg.vector_norm(torch.stack(norms))


def _total(parts: list[Tensor], batch: Batch) -> Tensor:
    """Sum over micro-batches; 0 where this process has none."""
    return functools.reduce(torch.add, parts) if parts else batch.labels.new_zeros(())


def read_from_device(
    run: Run, pending: list[tuple[dict[str, Any], list[Tensor]]], seconds: float
) -> tuple[dict[str, Any], ...]:
    """The records of a window of steps: the one place where the loop waits for the device."""
    clip = run.spec.train.clip_norm
    if run.exchange:
        pending = run.exchange.summed(pending)
    numbers = (tensor.item() for _, tensors in pending for tensor in tensors)
    records = []
    for (record, _), loss, correct, norm in zip(pending, numbers, numbers, numbers, strict=True):
        results = results_of(loss / record[run.unit], correct / record[run.unit], run.unit)
        records.append({**record, **results, "gradient_norm": norm, "clipped": bool(clip and norm > clip)})
    done = sum(record[run.unit] for record in records)
    records[-1] |= {f"{run.unit}_per_second": done / seconds, "memory_bytes": _memory_bytes(run.spec.device)}
    every = run.spec.record.ternary_every_steps
    if records[-1]["step"] - run.state.dynamics.step >= every or run.state.step == run.steps:
        records[-1] |= run.state.dynamics.measure(run.state.step)
    return tuple(records)


def _memory_bytes(device: str) -> int:
    """Peak memory of the device, or of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def evaluate_split(run: Run, split: str) -> dict[str, float]:
    """Loss, accuracy and, for text, perplexity of the current weights on a split."""
    batches = run.batches.evaluation(split)
    if run.exchange:
        run.exchange.align_buffers()
    return evaluate(run.state.model, batches, run.softmax, run.unit, run.autocast(), run.ranks)


def results_on_test(run: Run) -> dict[str, dict[str, float]]:
    """Test results of the last weights and of those with the best validation loss; the model keeps the last."""
    state = run.state
    results = {"last": evaluate_split(run, "test")}
    last = {n: t.clone() for n, t in state.model.state_dict().items()}
    state.model.load_state_dict(state.best_weights)
    results["best"] = evaluate_split(run, "test")
    state.model.load_state_dict(last)
    return results
