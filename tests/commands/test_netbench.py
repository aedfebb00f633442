"""Real exchanges over shaped links: the kernel counts what was said, and nothing stays behind, even after kill -9."""

import subprocess
import sys
import time

import psutil
import pytest

from lowbit.commands import netbench
from lowbit.distributed import namespaces

CASES = ["dense float32", "dense bfloat16", "hggtopk 0.2 allgather", "hggtopk 0.2 gtopk"]


@pytest.fixture
def started():
    command = [*(sys.executable, "-m", "lowbit", "netbench", "--ranks", "2", "--rates", "500mbit,1kbit")]
    command += ["--numel", "200000", "--density", "0.2", "--rounds", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()


def test_the_kernel_counts_what_is_said_and_nothing_stays_behind(started):
    lines = [started.stdout.readline() for _ in range(2 + len(CASES))]
    if why := namespaces.what_is_missing():
        assert lines[0] == f"loopback only, links of no set rate, no bytes counted: {why}\n"
        assert lines[3].split()[:3] == ["loopback", "dense", "float32"]
    else:
        for line, case in zip(lines[2:], CASES, strict=True):
            link, name, numbers = line[:10].strip(), line[11:37].strip(), line[37:].split()
            assert (link, name) == ("500mbit", case)
            wire, counted = float(numbers[2]), float(numbers[3])
            assert wire < counted < 1.05 * wire, line
        sizes = [float(line[37:].split()[2]) for line in lines[2:]]
        assert sizes == [2 * 4 * 200_000, 2 * 2 * 200_000, 2 * 8 * 40_000, 2 * 8 * 40_000]
    family = psutil.Process(started.pid).children(recursive=True)
    assert len(family) >= 2
    started.kill()
    started.wait()
    ends = time.monotonic() + 20
    while (alive := [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]) and (
        time.monotonic() < ends
    ):
        time.sleep(0.1)
    assert not alive


def test_rates():
    assert [netbench._rate(t) for t in ("100mbit", "1gbit", "2.5kbit", "unlimited")] == [1e8, 1e9, 2500.0, None]
    assert [netbench._named(r) for r in (1e8, 1e9, 2500.0, None)] == ["100mbit", "1gbit", "2.5kbit", "unlimited"]
    with pytest.raises(Exception, match="'fast': must be a number with kbit, mbit or gbit, or unlimited"):
        netbench._rate("fast")
