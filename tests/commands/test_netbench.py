"""Real exchanges over shaped links: the kernel counts what was said, and nothing stays behind, even after kill -9."""

import subprocess
import sys
import time

import psutil
import pytest

from lowbit.__main__ import main
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
    why = namespaces.what_is_missing()
    if why:
        assert lines[0] == f"loopback only, links of no set rate, no bytes counted: {why}\n"
        assert lines[3].split()[:3] == ["loopback", "dense", "float32"]
    else:
        for line, case in zip(lines[2:], CASES, strict=True):
            link, name, numbers = line[:10].strip(), line[11:37].strip(), line[37:].split()
            assert (link, name) == ("500mbit", case)
            wire, framed, counted = map(float, numbers[3:6])
            assert wire < counted, line
            assert framed == pytest.approx(counted, rel=0.05), line
        sizes = [float(line[37:].split()[3]) for line in lines[2:]]
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


def test_training_on_loopback(tmp_path, capsys):
    arguments = ["netbench", "--loopback", "--train", "2", "--density", "0.05", "--csv", str(tmp_path / "rows.csv")]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(
        "loopback only, links of no set rate, no bytes counted: asked for\n2 ranks"
    )
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert lines[0] == "benchmark,case,metric,value,unit"
    found = {(case, metric): float(value) for _, case, metric, value, _ in (line.split(",") for line in lines[1:])}
    matrices, biases = 64 * 1024 + 1024 * 1024 + 1024 * 10, 1024 + 1024 + 10
    assert found["loopback allreduce", "wire"] == 2 * 4 * (matrices + biases)
    assert found["loopback bf16", "wire"] == 2 * 2 * (matrices + biases)
    entries = sum(n // 20 for n in (64 * 1024, 1024 * 1024, 1024 * 10))
    assert found["loopback hggtopk 0.05", "wire"] == 2 * (8 * entries + 4 * biases)
    assert found["loopback hggtopk 0.05", "loss"] == found["loopback topk 0.05", "loss"]  # the same entries
    assert found["loopback allreduce", "to_goal"] > 0
    assert ("loopback allreduce", "counted") not in found


def test_rates():
    assert [netbench.rate_of(t) for t in ("100mbit", "1gbit", "2.5kbit", "unlimited")] == [1e8, 1e9, 2500.0, None]
    assert [netbench.named(r) for r in (1e8, 1e9, 2500.0, None)] == ["100mbit", "1gbit", "2.5kbit", "unlimited"]
    with pytest.raises(Exception, match="'fast': must be a number with kbit, mbit or gbit, or unlimited"):
        netbench.rate_of("fast")
