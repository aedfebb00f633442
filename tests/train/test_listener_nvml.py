"""The GPU sampler against a stand-in for the driver: what a line says, which GPUs it reads, and that it stays quiet."""

import json
import logging
import sys
import threading
import types
from types import SimpleNamespace

import pytest

from lowbit.train.events import RunStarted, StepsFinished
from lowbit.train.listeners import nvml
from lowbit.train.listeners._base import Listeners
from lowbit.train.listeners.nvml import GpuSampler, visible_handles

UUIDS = ["GPU-aaaa-1", "GPU-aabb-2", "GPU-cccc-3"]
STEP = StepsFinished(records=({"step": 1, "loss": 1.0},))


def started(device: str = "cuda", first_step: int = 0) -> RunStarted:
    return RunStarted(
        spec=SimpleNamespace(device=device), steps=2, first_step=first_step, metric="accuracy", unit="samples"
    )


class Driver(types.ModuleType):
    """GPU 0 draws 100 W then 200 W in turn; every reading of the counter of GPU k adds 5 (k + 1) joules."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):
        pass

    class NVMLError_NoPermission(NVMLError):
        pass

    class NVMLError_FunctionNotFound(NVMLError):
        pass

    def __init__(self, gpus: int = 1, unsupported: tuple[str, ...] = (), broken: tuple[str, ...] = ()):
        super().__init__("pynvml")
        self.gpus, self.unsupported, self.broken = gpus, unsupported, broken
        self.millijoules, self.power_readings = dict.fromkeys(range(gpus), 1_000_000), 0
        self.open, self.shut_down = 0, threading.Event()

    def _answer(self, function: str):
        if function in self.broken:
            raise self.NVMLError("GPU is lost")
        if function in self.unsupported:
            raise self.NVMLError_NotSupported

    def nvmlInit(self):
        self._answer("nvmlInit")
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1
        self.shut_down.set()

    def nvmlDeviceGetCount(self):
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUUID(self, handle):
        return UUIDS[handle]

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid != "MIG-dddd-4":
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle):
        self._answer("memory")
        return SimpleNamespace(total=80 << 30, used=(handle + 1) << 30)

    def nvmlDeviceGetUtilizationRates(self, handle):
        self._answer("utilization")
        return SimpleNamespace(gpu=75, memory=10)

    def nvmlDeviceGetPowerUsage(self, handle):
        self._answer("power")
        self.power_readings += 1
        return 100_000 if self.power_readings % 2 else 200_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self._answer("energy")
        self.millijoules[handle] += 5000 * (handle + 1)
        return self.millijoules[handle]


@pytest.fixture
def install(monkeypatch):
    """Puts a driver in place, every GPU visible, and a clock that goes on by one second a reading."""

    def put(driver):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setitem(sys.modules, "pynvml", driver)
        seconds = iter(range(100))
        monkeypatch.setattr(nvml, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
        return driver

    return put


def sample(path, event: RunStarted | None = None) -> list[dict]:
    """Lines of a run so short that the file holds the first and the last sample."""
    sampler = GpuSampler(path, interval_seconds=60)
    assert sampler.optional
    sampler.handle(event or started())
    sampler.handle(STEP)
    sampler.close()
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_lines_hold_every_reading_in_base_units(install, tmp_path):
    driver = install(Driver())
    first, last = sample(tmp_path / "gpu.jsonl")
    same = {"device": 0, "memory_bytes": 1 << 30, "power_watts": 200.0, "utilization_fraction": 0.75}
    assert first == same | {"seconds": 1.0, "energy_joules": 5.0}
    assert last == same | {"seconds": 2.0, "energy_joules": 10.0, "power_watts": 100.0}
    assert driver.open == 0


def test_energy_is_integrated_from_power_without_a_counter(install, tmp_path):
    install(Driver(unsupported=("energy",)))
    lines = sample(tmp_path / "gpu.jsonl")
    assert [(line["seconds"], line["energy_joules"]) for line in lines] == [(1.0, 150.0), (2.0, 300.0)]


def test_what_a_gpu_does_not_measure_is_null(install, tmp_path):
    install(Driver(unsupported=("energy", "power", "utilization", "memory")))
    for line in sample(tmp_path / "gpu.jsonl"):
        assert line.pop("seconds") > 0
        assert line.pop("device") == 0
        assert set(line.values()) == {None}


def test_resumed_run_goes_on_with_time_and_energy(install, tmp_path):
    path = tmp_path / "gpu.jsonl"
    install(Driver())
    sample(path)
    with path.open("a") as stream:
        stream.write('{"seconds": 3.0, "dev')
    lines = sample(path, started(first_step=7))
    assert [(line["seconds"], line["energy_joules"]) for line in lines] == [(1, 5), (2, 10), (3, 15), (4, 20)]
    assert len(sample(path)) == 2


def test_each_visible_gpu_is_read_under_the_number_torch_gives_it(install, tmp_path, monkeypatch):
    install(Driver(gpus=3))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    lines = sample(tmp_path / "gpu.jsonl")
    assert [(line["device"], line["memory_bytes"] >> 30) for line in lines] == [(0, 3), (1, 1)] * 2


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        (" 2, 0 ", [2, 0]),
        ("0,7,1", [0]),
        ("0,-1,1", [0]),
        ("GPU-cccc-3,GPU-aaaa-1", [2, 0]),
        ("GPU-c", [2]),
        ("GPU-aa", []),
        ("GPU-eeee", []),
        ("MIG-dddd-4", ["MIG-dddd-4"]),
        ("MIG-eeee", []),
    ],
)
def test_visible_gpus_follow_cuda(setting, expected):
    assert visible_handles(Driver(gpus=3), setting) == expected


@pytest.mark.parametrize("case", ["no library", "no driver", "no GPU", "hidden", "run on the CPU"])
def test_nothing_to_sample_means_no_file_and_no_word(install, tmp_path, monkeypatch, caplog, case):
    driver = {
        "no library": None,
        "no driver": Driver(broken=("nvmlInit",)),
        "no GPU": Driver(gpus=0),
        "hidden": Driver(),
        "run on the CPU": Driver(),
    }[case]
    install(driver)
    if case == "hidden":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    caplog.set_level(logging.DEBUG, logger="lowbit")
    assert sample(tmp_path / "gpu.jsonl", started("cpu" if case == "run on the CPU" else "cuda")) == []
    assert list(tmp_path.iterdir()) == []
    assert all(record.levelno == logging.DEBUG for record in caplog.records)
    assert driver is None or driver.open == 0


def test_gpu_that_is_lost_drops_the_sampler_and_not_the_run(install, tmp_path, caplog):
    driver = install(Driver(broken=("memory",)))
    listeners = Listeners([GpuSampler(tmp_path / "gpu.jsonl")])
    listeners.handle(started())
    assert driver.shut_down.wait(timeout=60)
    listeners.handle(STEP)
    assert listeners.active == []
    listeners.close()
    (warning,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "GpuSampler" in warning.getMessage()
    assert "GPU is lost" in warning.getMessage()
