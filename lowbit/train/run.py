"""A run from its spec to its folder: resume, train, tell the listeners, publish.

    <folder>/work/       while the run lasts: state.safetensors, events.jsonl, ...: what an interrupted run resumes from
    <folder>/            when it is done: spec.json, events.jsonl, summary.json, manifest.json, and weights if asked for

Snakemake deletes declared outputs before a job and after a failed one; nothing in `work/` is declared.
"""

import contextlib
import json
import logging
import platform
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lowbit import manifest
from lowbit.atomic import remove_partial, write_text
from lowbit.errors import NonFiniteError, UserError
from lowbit.spec import RunSpec
from lowbit.train.assemble import Run, assemble
from lowbit.train.checkpoint import CheckpointError, read_state, restore, save_weights, weights_sha256
from lowbit.train.events import RunFinished, StateReady
from lowbit.train.identity import identity_of
from lowbit.train.listeners._base import Listener, Listeners
from lowbit.train.listeners.checkpoints import Checkpoints
from lowbit.train.listeners.gradients import GradientStatistics
from lowbit.train.listeners.jsonl import JsonLines
from lowbit.train.lock import hold
from lowbit.train.loop import ADVICE, DivergedError, train
from lowbit.train.machine import keep_freed_memory, machine
from lowbit.train.parallel import GradientExchange, join
from lowbit.train.reproducibility import make_deterministic

log = logging.getLogger("lowbit")


class Interrupted(BaseException):
    """The run was told to stop and has saved its state.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}; run the same command again to go on")
        self.exit_status = 128 + number


class StopRequest:
    """Turns SIGINT and SIGTERM into a flag that the loop reads where the state is whole; a second one ends at once."""

    def __init__(self):
        self.number = 0
        self.previous = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}

    def _note(self, number: int, frame: object) -> None:
        self.number = number
        self.restore()

    def restore(self) -> None:
        """Put the previous handlers back."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def execute(
    spec: RunSpec,
    folder: Path,
    data_folder: Path,
    *,
    resume: bool = True,
    observers: Callable[[RunSpec, Path], list[Listener]] = lambda spec, work: [],
    exchange: Callable[[Run], GradientExchange] | None = None,
) -> dict[str, Any]:
    """Train a spec into a folder and return the summary.

    Args:
        spec: what to run.
        folder: of this run; a half-done run of the same spec, data and code in it is continued.
        data_folder: the prepared dataset.
        resume: False throws a half-done run away.
        observers: makes further listeners, given spec and work folder; they cannot change results.
        exchange: makes the exchange of gradients of a run whose spec has one.

    Raises:
        Interrupted: after SIGINT or SIGTERM, with the state saved.
        UserError: when spec, data or model do not fit, or when the loss is not finite: names the last good checkpoint.
    """
    make_deterministic(spec.threads)
    keep_freed_memory()
    ranks = join(spec.device)
    work = folder / "work"
    with contextlib.ExitStack() as stack:
        if ranks.is_first:
            stack.enter_context(contextlib.closing(hold(work)))
        run = assemble(spec, data_folder, ranks)
        if spec.exchange:
            assert exchange, "a spec with `exchange` needs what makes it"
            run.exchange = stack.enter_context(contextlib.closing(exchange(run)))
        identity = identity_of(spec, run.batches.manifest)
        before = _resumed(run, work / "state.safetensors", identity) if resume else {}
        if ranks.is_first and not before:
            _clear(work)
        started = time.perf_counter() - before.get("seconds", 0.0)
        checkpoints = Checkpoints(
            work, identity, spec.record.resume_seconds, spec.record.checkpoint_every_steps,
            lambda: time.perf_counter() - started, run.exchange, ranks.is_first,
        )  # fmt: skip
        watching = [*recorders_of(spec, work), *observers(spec, work)] if ranks.is_first else []
        listeners = Listeners([*watching, *([checkpoints] if ranks.is_first or run.exchange else [])])
        results = _drive(run, listeners, checkpoints)
        summary = summarise(run, results, time.perf_counter() - started, identity)
        if ranks.is_first:
            if run.exchange:
                summary["exchange"] = run.exchange.summary(work / "events.jsonl")
            publish(run, folder, summary)
        return summary


def recorders_of(spec: RunSpec, work: Path) -> list[Listener]:
    """The listeners that write the records of a run."""
    recorders: list[Listener] = [JsonLines(work / "events.jsonl")]
    if spec.record.track_grads:
        recorders.append(GradientStatistics(work / "gradients.jsonl", spec.record.log_every))
    return recorders


def _drive(run: Run, listeners: Listeners, checkpoints: Checkpoints) -> dict[str, dict[str, float]]:
    stop = StopRequest()
    results: dict[str, dict[str, float]] = {}
    if run.exchange:
        run.exchange.asked = lambda: (stop.number, run.ranks.is_first and checkpoints.due)
    try:
        for event in train(run, lambda: listeners.want_gradients):
            listeners.handle(event)
            if isinstance(event, StateReady) and _is_stopping(run, stop.number):
                if run.ranks.is_first or run.exchange:
                    checkpoints.save(event.state)
                raise Interrupted(stop.number or signal.SIGTERM)
            if isinstance(event, RunFinished):
                results = event.results
    except (DivergedError, NonFiniteError) as error:
        saved = checkpoints.saved_step
        good = f"{checkpoints.folder / 'state.safetensors'} (step {saved})" if saved else "none was written yet"
        why = str(error) if isinstance(error, DivergedError) else f"{str(error).partition(';')[0]}; {ADVICE}"
        raise UserError(f"{run.spec.path}: {why}; last good checkpoint: {good}") from error
    finally:
        stop.restore()
        listeners.close()
    return results


def _is_stopping(run: Run, number: int) -> bool:
    """Whether any process was told to stop; the same on all."""
    if run.exchange:
        return run.exchange.stopping
    if run.ranks.world == 1:
        return bool(number)
    return bool(run.ranks.sum(torch.tensor(float(number), device=run.spec.device)).item())


def _resumed(run: Run, path: Path, identity: dict[str, str]) -> dict[str, Any]:
    saved = None
    try:
        saved = read_state(path, identity) if path.exists() else None
    except CheckpointError as error:
        log.warning("%s; starting from step 0", error)
    if run.exchange and not run.exchange.recall(path.parent, saved and saved.step):
        return {}
    if saved is None:
        return {}
    extra = restore(run.state, saved)
    if run.ranks.is_first:
        log.info("resuming %s at step %d of %d", run.spec.path, run.state.step, run.steps)
    return extra


def _clear(work: Path) -> None:
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def summarise(run: Run, results: dict, seconds: float, identity: dict[str, str]) -> dict[str, Any]:
    """What summary.json holds: results, what was run, and where."""
    state, manifest_of_data = run.state, run.batches.manifest
    text = run.unit == "tokens"
    return {
        "metric": run.metric,
        "unit": run.unit,
        "test": results,
        "validation": {"best_loss": state.best_loss, "best_step": state.best_step},
        "steps": run.steps,
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "weights_sha256": weights_sha256(state.model.state_dict()),
        "layers": [asdict(record) for record in run.table],
        "bytes_per_token": _bytes_per_token(manifest_of_data) if text else None,
        "data": {"source": manifest_of_data["source"], "splits": manifest_of_data["splits"]},
        "identity": identity,
        "seconds": seconds,
        "device": run.spec.device,
        "machine": machine(run.spec),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def _bytes_per_token(data: dict[str, Any]) -> float:
    return data["bytes"]["test"] / data["splits"]["test"]["tokens"]["shape"][0]


def publish(run: Run, folder: Path, summary: dict[str, Any]) -> None:
    """Put the finished run in its place: each file whole, the manifest last, then remove the work folder."""
    work, spec = folder / "work", run.spec
    for old in (*folder.glob("*.safetensors"), *folder.glob("*.jsonl")):
        old.unlink()  # an earlier run in this folder may have kept more than this one does
    write_text(folder / "spec.json", spec.to_json())
    for kept in sorted(work.iterdir()):
        if kept.suffix == ".jsonl":
            write_text(folder / kept.name, kept.read_text(encoding="utf-8"))
        elif kept.is_dir():
            shutil.copytree(kept, folder / kept.name, dirs_exist_ok=True)
        elif kept.name.startswith("step"):
            shutil.copy(kept, folder / kept.name)
    if spec.record.save_checkpoints:
        save_weights(run.state.model.state_dict(), folder / "weights.safetensors")
        save_weights(run.state.best_weights, folder / "best.safetensors")
    write_text(folder / "summary.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")
    remove_partial(folder)
    manifest.write(folder)
    shutil.rmtree(work, ignore_errors=True)  # a process that waits to begin here may have put its lock in again
