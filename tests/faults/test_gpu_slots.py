"""Concurrent jobs never hold the same GPU slot, however they start, wait or die."""

import fcntl
import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from unittest import mock

import pytest

from lowbit.gpu_slots import GpuError, claim, slot_count, slots_folder, visible_devices

# Claims, marks every device as its own (a marker that exists already means a second holder) and waits for stdin to end.
JOB = """
import contextlib, os, sys, time
from pathlib import Path
from lowbit.gpu_slots import claim

wanted, jobs_per_gpu, folder = int(sys.argv[1]), int(os.environ["LOWBIT_JOBS_PER_GPU"]), Path(sys.argv[2])
devices = claim(wanted, None).devices
markers = []
for device in devices:
    for place in range(jobs_per_gpu):
        with contextlib.suppress(FileExistsError):
            (folder / f"{device}.{place}").touch(exist_ok=False)
            markers.append(folder / f"{device}.{place}")
            break
    else:
        sys.exit(f"{jobs_per_gpu} jobs held GPU {device} already")
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
time.sleep(0.05)
for marker in markers:
    marker.unlink()
"""


@pytest.fixture(autouse=True)
def two_gpus(tmp_path):
    """A host with two devices, no job on them and nothing inherited from the machine that runs the test."""
    ours = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID", "LOCAL_RANK", "LOWBIT_JOBS_PER_GPU")
    with mock.patch.dict(os.environ, LOWBIT_FAKE_GPUS="2", LOWBIT_GPU_SLOTS=str(tmp_path / "slots")):
        for variable in ours:
            os.environ.pop(variable, None)
        yield


@pytest.fixture
def start(tmp_path):
    """Start jobs; end them with the test."""
    markers = tmp_path / "markers"
    markers.mkdir()
    jobs = []

    def start(wanted: int, jobs_per_gpu: int = 1, stdin: int = subprocess.PIPE) -> subprocess.Popen:
        command = [sys.executable, "-c", JOB, str(wanted), str(markers)]
        environment = {**os.environ, "LOWBIT_JOBS_PER_GPU": str(jobs_per_gpu)}
        job = subprocess.Popen(
            command, env=environment, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        job.kill()
        with job:
            pass


def held(job: subprocess.Popen) -> set[str]:
    """The devices a job holds, once it holds them."""
    line = job.stdout.readline()
    assert line, job.stderr.read()
    return set(line.strip().split(","))


def is_locked(name: str) -> bool:
    with (slots_folder() / name).open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize(
    ("wanted", "jobs_per_gpu"), [([1] * 8, 1), ([1] * 8, 2), ([2] * 4, 1), ([2, 1, 2, 1, 2, 1], 1)]
)
def test_many_jobs_take_turns(start, wanted, jobs_per_gpu):
    jobs = [start(n, jobs_per_gpu, stdin=subprocess.DEVNULL) for n in wanted]
    for n, job in zip(wanted, jobs, strict=True):
        out, err = job.communicate()
        assert job.returncode == 0, err
        devices = out.strip().split(",")
        assert len(set(devices)) == n
        assert set(devices) <= {"0", "1"}


def test_concurrent_jobs_spread_over_the_devices(start):
    first, second = start(1), start(1)
    assert held(first) | held(second) == {"0", "1"}


def test_devices_fill_evenly_when_shared(start):
    devices = sorted(d for job in [start(1, jobs_per_gpu=2) for _ in range(4)] for d in held(job))
    assert devices == ["0", "0", "1", "1"]


@pytest.mark.parametrize("device", ["0", "1"])
def test_a_killed_job_frees_its_device(start, device, tmp_path):
    holders = {next(iter(held(job))): job for job in (start(1), start(1))}
    waiting = start(1)
    (tmp_path / "markers" / f"{device}.0").unlink()
    holders[device].send_signal(signal.SIGKILL)
    assert held(waiting) == {device}
    other = holders["1" if device == "0" else "0"]
    assert other.poll() is None


def test_a_job_that_waits_for_two_devices_holds_neither(start):
    small = start(1)
    taken = held(small)
    large = start(2)
    other = start(1)
    assert held(other) == {"0", "1"} - taken
    for job in (small, other):
        job.communicate()
    assert held(large) == {"0", "1"}


def test_the_lock_lives_on_in_the_program_that_the_job_becomes():
    becomes = "import sys; print('ready', flush=True); sys.stdin.read()"
    job = "import os, sys; from lowbit.gpu_slots import claim; claim(1, 1)"
    code = f"{job}; os.execv(sys.executable, ['python', '-c', {becomes!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as job:
        assert job.stdout.readline() == b"ready\n"
        assert is_locked("gpu0.slot0")
        job.kill()
    assert not is_locked("gpu0.slot0")


def test_a_pool_of_uuids_is_honoured():
    pool = "GPU-5f5d8a3c-11aa,MIG-GPU-5f5d8a3c/1/0"
    os.environ["CUDA_VISIBLE_DEVICES"] = pool
    first = claim(1, None)
    os.environ["CUDA_VISIBLE_DEVICES"] = pool
    second = claim(1, None)
    assert first.devices + second.devices == tuple(pool.split(","))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-GPU-5f5d8a3c/1/0"
    assert "CUDA_DEVICE_ORDER" not in os.environ
    first.release()
    os.environ["CUDA_VISIBLE_DEVICES"] = pool
    assert claim(1, None).devices == first.devices


@pytest.mark.parametrize(
    ("named", "pool"),
    [("", []), ("-1", []), ("3", ["3"]), ("0,-1,1", ["0"]), (" 2 , 0 ", ["2", "0"]), ("1,1", ["1"])],
)
def test_the_pool_is_read_as_cuda_reads_it(named, pool):
    os.environ["CUDA_VISIBLE_DEVICES"] = named
    assert visible_devices() == pool


def test_slurm_has_chosen_already():
    os.environ.update(SLURM_JOB_ID="17", CUDA_VISIBLE_DEVICES="5")
    assert claim(1, 1).devices == ("5",)
    assert claim(1, 1).locks == ()
    assert not slots_folder().exists()
    with pytest.raises(GpuError, match="needs 2 GPU"):
        claim(2, 2)


def test_jobs_inside_a_larger_allocation_share_it_out():
    os.environ.update(SLURM_JOB_ID="17", CUDA_VISIBLE_DEVICES="0,1")
    claim(1, 1)
    os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
    assert claim(1, 1).devices == ("1",)
    os.environ.update(SLURM_JOB_ID="18", CUDA_VISIBLE_DEVICES="0,1")
    assert claim(1, 1).devices == ("0",)


def test_a_worker_of_torchrun_does_not_wait_for_its_siblings():
    os.environ.update(LOCAL_RANK="1")
    assert claim(2, 2).devices == ("0", "1")
    assert claim(2, 2).locks == ()


def test_a_grant_that_snakemake_cut_is_refused():
    with pytest.raises(GpuError, match=r"needs 2 GPU\(s\), but Snakemake granted 1: .*--resources gpu=2"):
        claim(2, 1)
    assert not slots_folder().exists()


def test_the_limit_for_snakemake_counts_devices_and_sharers():
    assert slot_count() == 2
    os.environ.update(CUDA_VISIBLE_DEVICES="GPU-a,GPU-b,GPU-c", LOWBIT_JOBS_PER_GPU="2")
    assert slot_count() == 6


def test_more_than_there_are_is_refused_at_once():
    with pytest.raises(GpuError, match=r"needs 3 GPU\(s\), but 2 can be seen \(LOWBIT_FAKE_GPUS=2\)"):
        claim(3, None)


@pytest.mark.parametrize("granted", [None, 0, 1])
def test_a_cpu_run_changes_nothing(granted):
    before = dict(os.environ)
    assert claim(0, granted).devices == ()
    assert dict(os.environ) == before
    assert not slots_folder().exists()


@pytest.mark.parametrize(("variable", "least"), [("LOWBIT_JOBS_PER_GPU", 1), ("LOWBIT_FAKE_GPUS", 0)])
@pytest.mark.parametrize("value", ["many", "-1", "1.5", ""])
def test_a_wrong_variable_is_named(variable, least, value):
    os.environ[variable] = value
    with pytest.raises(GpuError, match=f"{variable}: must be a whole number of at least {least}, got '{value}'"):
        claim(1, None)


class FakeNvmlError(Exception):
    pass


def fake_nvml(count: int | None) -> types.SimpleNamespace:
    """A driver with this many devices, or no driver."""

    def init() -> None:
        if count is None:
            raise FakeNvmlError("NVML Shared Library Not Found")

    return types.SimpleNamespace(
        NVMLError=FakeNvmlError, nvmlInit=init, nvmlShutdown=lambda: None, nvmlDeviceGetCount=lambda: count
    )


def test_devices_are_counted_by_the_driver(monkeypatch):
    del os.environ["LOWBIT_FAKE_GPUS"]
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(3))
    assert claim(3, None).devices == ("0", "1", "2")
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.parametrize("module", [fake_nvml(None), None], ids=["no driver", "no nvidia-ml-py"])
def test_no_driver_means_no_device(monkeypatch, module):
    del os.environ["LOWBIT_FAKE_GPUS"]
    monkeypatch.setitem(sys.modules, "pynvml", module)
    with pytest.raises(GpuError, match="0 can be seen"):
        claim(1, None)


def test_a_waiting_job_says_so_once(monkeypatch, caplog):
    first = claim(2, None)
    del os.environ["CUDA_VISIBLE_DEVICES"]
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 20:
            first.release()

    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr("lowbit.gpu_slots.time", types.SimpleNamespace(sleep=nap, monotonic=lambda: next(clock)))
    with caplog.at_level("INFO", logger="lowbit"):
        assert claim(1, None).devices == ("0",)
    assert [r.message.split()[0] for r in caplog.records] == ["waiting", "took"]


def test_a_folder_of_someone_else_is_refused(tmp_path):
    (tmp_path / "slots").mkdir()
    with mock.patch("os.access", return_value=False), pytest.raises(GpuError, match="set LOWBIT_GPU_SLOTS"):
        claim(1, None)


def test_locks_are_per_user_and_host(monkeypatch, tmp_path):
    del os.environ["LOWBIT_GPU_SLOTS"]
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert slots_folder() == Path(tmp_path) / f"lowbit-gpus-{os.getuid()}"
