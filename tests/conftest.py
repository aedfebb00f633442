"""What every test shares: one CPU thread, and no test that is skipped unnoticed in CI."""

import os
import signal

import pytest
from hypothesis import settings

# `pytest --hypothesis-profile long` searches by hand for what a fixed budget cannot find.
settings.register_profile("fixed", max_examples=40, deadline=None, derandomize=True, database=None)
settings.register_profile("long", max_examples=5000, deadline=None)
settings.load_profile("fixed")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
for variable in ("LOWBIT_PARENT", "LOWBIT_WORKFLOW", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
    os.environ.pop(variable, None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so it is in the background of a script, and in all children
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST = ("workflow", "train", "distributed", "kernels")
MAY_BE_SKIPPED = ("needs a GPU",)
_skipped: list[str] = []


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none; what shares a fixture runs in one process, the longest first.

    pytest-xdist keeps this order with `--no-loadscope-reorder`; its own begins with the files of many quick tests and
    ends with one process that waits for the other's last study.
    """
    without_gpu = not os.path.isdir("/proc/driver/nvidia/gpus")  # noqa: PTH112
    for item in items:
        if item.get_closest_marker("gpu") and without_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a GPU: no NVIDIA device on this machine"))
        shared = item.path.parent if "finished" in item.fixturenames else item.path
        item.add_marker(pytest.mark.xdist_group(str(shared)))
    items.sort(key=_when)


def _when(item) -> tuple[int, bool]:
    """Where a test stands in the order: by its folder, and what shares a fixture first."""
    folder = item.path.parent.name
    return LONGEST.index(folder) if folder in LONGEST else len(LONGEST), "finished" not in item.fixturenames


def pytest_runtest_logreport(report):
    """Remember tests that CI should have run."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        if not reason.startswith(MAY_BE_SKIPPED):
            _skipped.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session):
    """In CI a skipped test is a failed one, unless the machine cannot have what it needs."""
    if os.environ.get("CI") and _skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """Name the tests that CI should have run."""
    if os.environ.get("CI") and _skipped:
        terminalreporter.section("skipped, but CI must run them")
        for line in _skipped:
            terminalreporter.line(line)


@pytest.fixture
def draws_of_one_half(monkeypatch):
    """Quantizers that round at random round to the nearest: every draw of theirs is 1/2."""
    monkeypatch.setattr("torch.rand_like", lambda x: x.new_full(x.shape, 0.5))
