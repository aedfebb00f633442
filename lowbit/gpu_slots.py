"""Distinct GPUs for concurrent jobs on one host, by a file lock per slot that the kernel frees with its holder.

Snakemake's `resources: gpu` only counts: it names no device, and a request above the limit is cut to it without a word.
A job therefore calls `claim` before it imports torch. The lock belongs to the process, so that a crash or `kill -9`
frees the device at once and there is no state to go stale.

Environment:
    CUDA_VISIBLE_DEVICES: the pool to choose from, numbers or UUIDs (one naming per host: locks go by name); without it,
        every device of NVML.
    LOWBIT_JOBS_PER_GPU: how many jobs may share a device, the same for all jobs of a host; 1 unless set.
    LOWBIT_GPU_SLOTS: folder of the locks; one per user and host unless set.
    LOWBIT_FAKE_GPUS: pretend that the host has this many devices (tests).
"""

import contextlib
import fcntl
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lowbit.errors import UserError

log = logging.getLogger("lowbit")

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 5.0


class GpuError(UserError):
    """A run that cannot have the GPUs it needs; the message says which number to change."""


@dataclass(frozen=True)
class Claim:
    """Devices that are this process's until it ends.

    Args:
        devices: their ids, as in CUDA_VISIBLE_DEVICES; empty on a CPU.
        locks: open file descriptors; inherited by what this process becomes with `exec`, closed with it by the kernel.
    """

    devices: tuple[str, ...] = ()
    locks: tuple[int, ...] = ()

    def release(self) -> None:
        """Give the devices back before the process ends."""
        for descriptor in self.locks:
            os.close(descriptor)


def claim(wanted: int, granted: int | None) -> Claim:
    """Take GPUs for this process alone, wait while they are busy, and point CUDA_VISIBLE_DEVICES at them.

    All or nothing: a job holds no device while it waits for a second one. Where the devices were chosen by whoever
    started this process (Slurm, `torchrun`), only their number is checked; an allocation of more devices than the run
    needs is shared out by locks of its own, since device numbers of two allocations need not mean the same.

    Args:
        wanted: devices the run needs; 0 on a CPU, where nothing is done.
        granted: what Snakemake granted (`{resources.gpu}`); None when started by hand.

    Raises:
        GpuError: when fewer are granted, or fewer exist, than wanted.
    """
    if wanted == 0:
        return Claim()
    pool = visible_devices()
    if len(pool) < wanted:
        raise GpuError(
            f"this run needs {wanted} GPU(s), but {len(pool)} can be seen ({_pool_source()}); "
            "look at `nvidia-smi`, or use device: cpu"
        )
    if granted is not None and granted < wanted:
        raise GpuError(
            f"this run needs {wanted} GPU(s), but Snakemake granted {granted}: it cuts a request to its limit without "
            f"a word; raise the limit (--resources gpu={wanted} or `resources: gpu` in the profile), or use device: cpu"
        )
    if "LOCAL_RANK" in os.environ or ("SLURM_JOB_ID" in os.environ and len(pool) == wanted):
        return Claim(devices=tuple(pool[:wanted]))
    taken = _wait_for(wanted, pool)
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        # NVML counts in bus order; CUDA would put the fastest device first.
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken.devices)
    return taken


def visible_devices() -> list[str]:
    """Ids of the devices this process may use, as CUDA_VISIBLE_DEVICES would name them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        ids = [part.strip() for part in named.split(",")]
        # CUDA ignores everything from the first invalid id on; "" and "-1" are the usual ways to hide all devices.
        end = next((i for i, part in enumerate(ids) if part in ("", "-1", "NoDevFiles")), len(ids))
        return list(dict.fromkeys(ids[:end]))
    if "LOWBIT_FAKE_GPUS" in os.environ:
        return [str(n) for n in range(_number("LOWBIT_FAKE_GPUS", default=0, least=0))]
    return [str(n) for n in range(_count_by_nvml())]


def slot_count() -> int:
    """How many jobs of one GPU can run at once on this host: the limit that `profiles/gpu` gives Snakemake."""
    return len(visible_devices()) * _jobs_per_gpu()


def slots_folder() -> Path:
    """Where the locks of this user on this host are.

    Not XDG_RUNTIME_DIR: it disappears at logout while jobs go on, and is unset under cron.
    """
    named = os.environ.get("LOWBIT_GPU_SLOTS")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"lowbit-gpus-{os.getuid()}"
    allocation = os.environ.get("SLURM_JOB_ID")
    return folder / f"slurm{allocation}" if allocation else folder


def _wait_for(wanted: int, pool: list[str]) -> Claim:
    folder = _made(slots_folder())
    jobs_per_gpu = _jobs_per_gpu()
    started, told = time.monotonic(), False
    while (taken := _try(wanted, pool, jobs_per_gpu, folder)) is None:
        waited = time.monotonic() - started
        if not told and waited > PATIENCE_SECONDS:
            log.info("waiting for %d of the GPUs %s: all are taken (locks in %s)", wanted, ", ".join(pool), folder)
            told = True
        time.sleep(POLL_SECONDS)
    if told:
        log.info("took GPU %s after %.0f s", ", ".join(taken.devices), time.monotonic() - started)
    return taken


def _try(wanted: int, pool: list[str], jobs_per_gpu: int, folder: Path) -> Claim | None:
    """One look at all slots; the gate keeps two looks from each finding half of what both want."""
    taken: dict[str, int] = {}
    with _gate(folder):
        for slot in range(jobs_per_gpu):
            for device in pool:
                if device in taken or len(taken) == wanted:
                    continue
                descriptor = _lock(folder / f"gpu{re.sub(r'[^A-Za-z0-9-]', '_', device)}.slot{slot}")
                if descriptor is not None:
                    taken[device] = descriptor
        if len(taken) < wanted:
            for descriptor in taken.values():
                os.close(descriptor)
            return None
    devices = tuple(device for device in pool if device in taken)
    for descriptor in taken.values():
        os.set_inheritable(descriptor, True)
    return Claim(devices, tuple(taken[device] for device in devices))


@contextlib.contextmanager
def _gate(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / "gate", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """An open descriptor that holds the lock of a file, or None while somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise GpuError(f"{folder}: must be a folder you can write to, for the locks of GPUs; set LOWBIT_GPU_SLOTS")
    return folder


def _pool_source() -> str:
    for variable in ("CUDA_VISIBLE_DEVICES", "LOWBIT_FAKE_GPUS"):
        if variable in os.environ:
            return f"{variable}={os.environ[variable]}"
    return "counted by the NVIDIA driver"


def _jobs_per_gpu() -> int:
    return _number("LOWBIT_JOBS_PER_GPU", default=1, least=1)


def _number(variable: str, default: int, least: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or int(text) < least:
        raise GpuError(f"{variable}: must be a whole number of at least {least}, got {text!r}")
    return int(text)


def _count_by_nvml() -> int:
    """Devices of the NVIDIA driver; 0 without a driver or without nvidia-ml-py."""
    try:
        import pynvml
    except ImportError:
        return 0
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return pynvml.nvmlDeviceGetCount()
    finally:
        pynvml.nvmlShutdown()
