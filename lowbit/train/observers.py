"""Listeners that watch a run without being part of its results: bar, dashboards, power meter.

They stand apart from `lowbit.train.run`, so that editing one of them makes no result out of date.
"""

from pathlib import Path

from lowbit.spec import RunSpec
from lowbit.train.listeners._base import Listener
from lowbit.train.listeners.nvml import GpuSampler
from lowbit.train.listeners.progress import Progress


def observers_of(spec: RunSpec, work: Path) -> list[Listener]:
    """The observers that a spec asks for.

    Args:
        spec: of the run.
        work: folder that they may write to.

    Raises:
        MissingExtraError: when an optional package is not installed; names the extra.
    """
    record = spec.record
    observers: list[Listener] = [Progress(spec)]
    if record.sample_gpu and spec.device == "cuda":
        observers.append(GpuSampler(work / "gpu.jsonl"))
    if record.tensorboard:
        from lowbit.train.listeners.tensorboard import TensorBoard

        observers.append(TensorBoard(work / "tensorboard"))
    if record.wandb:
        from lowbit.train.listeners.wandb import WeightsAndBiases

        observers.append(WeightsAndBiases(work, spec))
    return observers
