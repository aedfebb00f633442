"""Real exchanges over shaped links: the kernel counts what was said, and nothing stays behind, even after kill -9."""

import subprocess
import sys
import time
from contextlib import ExitStack
from types import SimpleNamespace

import psutil
import pytest

from lowbit import cost
from lowbit.__main__ import main
from lowbit.commands import netbench
from lowbit.distributed import namespaces
from lowbit.distributed.measurements import PHASES, Traffic, Trained, cases
from lowbit.distributed.netbench import Group

SPARSE = ("hggtopk 0.2 allgather", "hggtopk 0.2 gtopk", "hggtopk 0.2 oktopk", "randomkec 0.2 shared")
CASES = ["dense float32", "dense bfloat16", *SPARSE]


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
        assert sizes[:4] == [2 * 4 * 200_000, 2 * 2 * 200_000, 2 * 8 * 40_000, 2 * 8 * 40_000]
        assert sizes[4] == pytest.approx(2 * 8 * 40_000, rel=0.1)  # as many as estimates let through, and counts
        assert sizes[5] == 2 * 4 * 40_000
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "2"], "--seeds: is for training; add --train STEPS, or leave it out"),
        (["--trace", "somewhere"], "--trace: is for training; add --train STEPS, or leave it out"),
        (["--train", "2", "--numel", "10"], "--numel: is for exchanges alone"),
        (["--train", "2", "--rounds", "10"], "--rounds: is for exchanges alone"),
        (["--train", "2", "--ranks-per-node", "2"], "--ranks-per-node: is for exchanges alone"),
        (["--loopback", "--rates", "1gbit"], "--rates: loopback is as fast as it goes"),
        (["--loopback", "--latency", "1ms"], "--latency: loopback is as fast as it goes"),
        (["--ranks-per-node", "3"], "--ranks-per-node 3: must divide --ranks 2"),
    ],
)
def test_options_without_effect_are_refused(arguments, said, capsys):
    assert main(["netbench", *arguments]) != 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ranks", "1"], "'1': must be 2 to 8 processes; one alone exchanges nothing"),
        (["--ranks", "9"], "'9': must be 2 to 8 processes"),
        (["--ranks", "255"], "'255': must be 2 to 8 processes"),
        (["--latency", "fast"], "'fast': must be a number with us, ms or s, or 0"),
    ],
)
def test_values_that_no_measurement_has_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit):
        main(["netbench", "--loopback", *arguments])
    assert said in capsys.readouterr().err


def test_a_latency_that_the_kernel_cannot_make_starts_nothing(monkeypatch, capsys):
    monkeypatch.setattr(namespaces, "what_is_missing", lambda: "")
    monkeypatch.setattr(namespaces, "_fault", lambda command: "Error: Specified qdisc kind is unknown.")
    monkeypatch.setattr(Group, "measure", lambda *_: pytest.fail("measured"))
    assert main(["netbench", "--latency", "500us"]) != 0
    assert "a latency of 0.5 ms on links: needs netem, which this kernel does not have" in capsys.readouterr().err


def test_every_run_is_timed_to_its_first_crossing_of_the_goal(monkeypatch, tmp_path, capsys):
    curves = {
        "allreduce": [(1.0, 0.9), (2.0, 0.4), (3.0, 0.6), (4.0, 0.5)],  # there after 2 s, and then away again
        "hggtopk": [(0.5, 0.9), (1.0, 0.5), (1.5, 0.1)],
        "bf16": [(9.0, 0.6)],
    }

    def measure(group, runs, rate):
        for run in (r for r in runs if r.hook in curves and r.pipeline):
            traffic = Traffic(1.0, 1.0, 1.0, None, 1448)
            yield Trained(run, 0.1, dict.fromkeys(PHASES, 0.0), traffic, curves[run.hook])

    monkeypatch.setattr(Group, "measure", measure)
    assert main(["netbench", "--loopback", "--train", "4", "--csv", str(tmp_path / "rows.csv")]) == 0
    lines = [line.split(",") for line in (tmp_path / "rows.csv").read_text().splitlines()]
    found = {(case, metric): float(value) for _, case, metric, value, _ in lines[1:]}
    assert found["loopback allreduce", "to_goal_of_dense"] == 1
    assert found["loopback hggtopk 0.01", "to_goal_of_dense"] == 0.5
    assert ("loopback bf16", "to_goal") not in found


def test_one_group_does_several_measurements_and_waits_and_frames_as_the_cost_model_says():
    families, small = [], {}
    loopback = bool(namespaces.what_is_missing())
    with ExitStack() as stack:
        group = Group(stack, 3, loopback=loopback)
        assert not group._processes, "nothing is started before it is needed"
        for numel in (3000, 6000):
            for found in group.measure(cases(numel, 0.2, 10), None if loopback else 5e8):
                asked = cost.volume(found.case.scheme, 3, numel, 0.2)
                assert found.traffic.messages_in_row == asked.messages, found.case.name
                small[numel, found.case.name] = found.traffic
            families.append([process.pid for process in group._processes])
    assert len(families[0]) == 3
    assert families[0] == families[1]
    assert not any(map(psutil.pid_exists, families[0]))
    for name in () if loopback else ("dense bfloat16", "hggtopk 0.2 oktopk", "randomkec 0.2 shared"):
        traffic = small[6000, name]
        assert cost.MESSAGE_BYTES * traffic.messages > 0.1 * traffic.counted_bytes, "a good part is not payload"
        assert traffic.framed_bytes == pytest.approx(traffic.counted_bytes, rel=0.05), name


def test_a_processor_that_is_taken_away_from_one_rank_at_a_time_does_not_show_in_what_it_computes(monkeypatch):
    told = {"compress": [1.0, 1.0, 30.0], "decompress": [2.0, 20.0, 2.0], "seconds": [5.0, 25.0, 35.0]}
    other = {"compress": [1.0, 30.0, 1.0], "decompress": [20.0, 2.0, 2.0], "seconds": [25.0, 35.0, 5.0]}
    traffic = {"wire_bytes": 0, "messages": 0, "messages_in_row": 0, "counted_bytes": 0}
    monkeypatch.setattr(Group, "_start", lambda group, rate: None)
    monkeypatch.setattr(Group, "_told", lambda group, job, rate: [told | traffic, other | traffic])
    with ExitStack() as stack:
        (found,) = Group(stack, 2, loopback=True).measure(cases(1000, 0.1, 3)[:1], None)
    assert (found.compress_seconds, found.decompress_seconds) == (1.0, 2.0)
    assert found.seconds == 35.0, "an exchange waits for the slowest"


def test_links_have_their_rate_before_anything_is_measured(monkeypatch):
    done = []
    numbers = dict.fromkeys(("wire_bytes", "messages", "messages_in_row", "counted_bytes"), 1)
    told = {"seconds": [0.1], "compress": [0.1], "decompress": [0.1], **numbers}
    with ExitStack() as stack:
        group = Group(stack, 2, loopback=True, latency_seconds=0.001)
        group._processes = [object()]  # as if they had been started
        group._network = SimpleNamespace(shape=lambda *link: done.append(link))
        monkeypatch.setattr(group, "_told", lambda job, rate: done.append(job) or [told] * 2)
        asked = cases(10, 0.1, 1)[:1]
        for rate in (1e8, 1e10):
            assert len(list(group.measure(asked, rate))) == 1
    assert done == [(1e8, 0.001), *asked, (1e10, 0.001), *asked]


def test_rates():
    assert [netbench.rate_of(t) for t in ("100mbit", "1gbit", "2.5kbit", "unlimited")] == [1e8, 1e9, 2500.0, None]
    assert [netbench.named(r) for r in (1e8, 1e9, 2500.0, None)] == ["100mbit", "1gbit", "2.5kbit", "unlimited"]
    with pytest.raises(Exception, match="'fast': must be a number with kbit, mbit or gbit, or unlimited"):
        netbench.rate_of("fast")
