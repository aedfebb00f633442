"""Samples of the GPUs that a run can see: memory, power, utilisation, energy."""

import json
import logging
import os
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from lowbit.train.events import Event, RunStarted
from lowbit.train.listeners._base import Listener
from lowbit.train.listeners._lines import reopen

log = logging.getLogger("lowbit")


class GpuSampler(Listener):
    """Writes a JSON line per GPU and second of what it uses.

    The keys are `seconds, device, memory_bytes, power_watts, utilization_fraction, energy_joules`; `device` is the
    number that torch knows the GPU by. Seconds and energy count from the start of the run and go on where an
    interrupted attempt stopped; memory and power are the whole GPU's, whoever uses it. What a GPU does not measure is
    null. Energy comes from its counter, or else from power integrated over time. A run on the CPU, and one without a
    driver or a visible GPU, gets no file.

    Args:
        path: of the file.
        interval_seconds: between samples; there is always one at the start and one at the end.
    """

    def __init__(self, path: Path, interval_seconds: float = 1.0):
        self._path = path
        self._interval = interval_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def handle(self, event: Event) -> None:
        if isinstance(event, RunStarted) and event.spec.device == "cuda":
            self._start(resumed=event.first_step > 0)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _start(self, resumed: bool) -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception as error:
            log.debug("no GPU is sampled: %r", error)
            return
        handles = visible_handles(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
        if not handles:
            log.debug("no GPU is sampled: none is visible")
            pynvml.nvmlShutdown()
            return
        self._thread = threading.Thread(target=self._sample, args=(pynvml, handles, resumed), daemon=True)
        self._thread.start()

    def _sample(self, nvml: ModuleType, handles: list[Any], resumed: bool) -> None:
        try:
            with reopen(self._path, lambda line: resumed) as stream:
                earlier = {line["device"]: line for line in map(json.loads, self._path.read_text().splitlines())}
                meters = [Meter(nvml, handle, earlier.get(device, {})) for device, handle in enumerate(handles)]
                last = False
                while True:
                    for device, meter in enumerate(meters):
                        stream.write(json.dumps(meter.read() | {"device": device}) + "\n")
                    if last:
                        break
                    last = self._stop.wait(self._interval)
        except Exception as error:
            self._failure = error
        finally:
            nvml.nvmlShutdown()


class Meter:
    """Reads one GPU, and keeps its totals.

    Args:
        nvml: the library.
        handle: of the GPU.
        earlier: the last line of an interrupted attempt, from which the totals go on; or nothing.
    """

    def __init__(self, nvml: ModuleType, handle: Any, earlier: dict[str, Any]):
        self._nvml = nvml
        self._handle = handle
        self._seconds_before = earlier.get("seconds", 0.0)
        self._joules = earlier.get("energy_joules") or 0.0
        self._start = self._time = time.monotonic()
        self._counter = self._ask("nvmlDeviceGetTotalEnergyConsumption")  # millijoules since the driver was loaded
        self._watts = self._power()

    def read(self) -> dict[str, float | int | None]:
        """The line of this moment, without the device."""
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        self._advance()
        return {
            "seconds": round(self._seconds_before + self._time - self._start, 3),
            "memory_bytes": None if memory is None else memory.used,
            "power_watts": self._watts,
            "utilization_fraction": None if rates is None else rates.gpu / 100,
            "energy_joules": None if self._watts is None and self._counter is None else round(self._joules, 3),
        }

    def _advance(self) -> None:
        before, self._time = self._time, time.monotonic()
        watts_before, self._watts = self._watts, self._power()
        if self._counter is not None:
            counter_before, self._counter = self._counter, self._ask("nvmlDeviceGetTotalEnergyConsumption")
            self._joules += (self._counter - counter_before) / 1000
        elif self._watts is not None:
            self._joules += (watts_before + self._watts) / 2 * (self._time - before)

    def _power(self) -> float | None:
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts / 1000

    def _ask(self, function: str) -> Any:
        nvml = self._nvml
        try:
            return getattr(nvml, function)(self._handle)
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission, nvml.NVMLError_FunctionNotFound):
            return None


def visible_handles(nvml: ModuleType, setting: str | None) -> list[Any]:
    """The GPUs that CUDA shows to this process, in its order.

    Args:
        nvml: the library, initialised.
        setting: value of CUDA_VISIBLE_DEVICES, None when unset: numbers, or UUIDs, which may be cut short. As in CUDA,
            what follows the first entry that names no GPU is not seen. Numbers count in PCI order, which is CUDA's
            own with CUDA_DEVICE_ORDER=PCI_BUS_ID and wherever all GPUs are of one model.
    """
    every = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    if setting is None:
        return every
    found = []
    for entry in (part.strip() for part in setting.split(",")):
        handle = _handle_of(nvml, entry, every)
        if handle is None:
            break
        found.append(handle)
    return found


def _handle_of(nvml: ModuleType, entry: str, every: list[Any]) -> Any | None:
    if entry.isdigit():
        return every[int(entry)] if int(entry) < len(every) else None
    if entry.startswith("MIG-"):  # a slice of a GPU, which the enumeration of whole GPUs does not list
        try:
            return nvml.nvmlDeviceGetHandleByUUID(entry)
        except nvml.NVMLError:
            return None
    matches = [handle for handle in every if entry and nvml.nvmlDeviceGetUUID(handle).startswith(entry)]
    return matches[0] if len(matches) == 1 else None
