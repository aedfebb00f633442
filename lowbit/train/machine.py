"""The hardware that a run computes on."""

import ctypes
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from lowbit.spec import RunSpec

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def processor() -> str:
    """Model name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def keep_freed_memory() -> None:
    """Let this process reuse the memory of its tensors instead of returning it to the system and faulting it in again.

    Saves a sixth of the time of a small ViT's training step on a CPU, where glibc maps large tensors anew or trims what
    they leave. Those above 32 MiB stay mapped, as glibc's own adaptive threshold would have it: equal sizes among small
    allocations can keep a heap growing, which must not happen to the largest. Does nothing with another C library.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def graphics_card(device: str) -> str | None:
    """Model name of the GPU; None where the device is a CPU."""
    return torch.cuda.get_device_name() if device == "cuda" else None


def machine(spec: RunSpec) -> dict[str, Any]:
    """Processor, threads and GPU of a run."""
    return {"processor": processor(), "threads": spec.threads, "gpu": graphics_card(spec.device)}
