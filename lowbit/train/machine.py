"""The hardware that a run computes on."""

import platform
from pathlib import Path
from typing import Any

import torch

from lowbit.spec import RunSpec


def processor() -> str:
    """Model name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def graphics_card(device: str) -> str | None:
    """Model name of the GPU; None where the device is a CPU."""
    return torch.cuda.get_device_name() if device == "cuda" else None


def machine(spec: RunSpec) -> dict[str, Any]:
    """Processor, threads and GPU of a run."""
    return {"processor": processor(), "threads": spec.threads, "gpu": graphics_card(spec.device)}
