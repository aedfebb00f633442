"""A rank of a measurement that is killed or stopped ends it, and the error says which rank it was, and where."""

import json
import re
import signal
import time
from contextlib import ExitStack
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import pytest

from lowbit.distributed import netbench
from lowbit.distributed.measurements import Case, Training
from lowbit.distributed.netbench import Group
from lowbit.errors import LostRankError, RankError

EXCHANGE = Case("hggtopk", "gtopk", 0.2, 20_000, rounds=1)
TRAINING = Training("allreduce", 0.05, 1, width=32, every=1_000)


@pytest.fixture
def group():
    """Two ranks."""
    with ExitStack() as stack:
        yield Group(stack, 2, loopback=True)


def said(group, job, many, rank, number, monkeypatch):
    """What is said of a rank that gets a signal in the middle of much of a job, and after how many seconds."""
    assert len(list(group.measure([job], None))) == 1  # all is imported
    monkeypatch.setattr(group, "_patience", 5.0)
    monkeypatch.setattr(netbench, "GRACE_SECONDS", 4.0)
    heard = group._heard

    def signalled(limit):
        time.sleep(3)  # by now they exchange
        group._processes[rank].send_signal(number)
        return heard(limit)

    monkeypatch.setattr(group, "_heard", signalled)
    begun = time.monotonic()
    with pytest.raises(LostRankError) as caught:
        next(group.measure([replace(job, **many)], None))
    return str(caught.value), time.monotonic() - begun


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_is_named(group, rank, monkeypatch):
    told, seconds = said(group, EXCHANGE, {"rounds": 1_000_000}, rank, signal.SIGKILL, monkeypatch)
    pattern = rf"exchange hggtopk 0\.2 gtopk of 20000 entries, round \d+: rank {rank} of 2 was ended by SIGKILL"
    assert re.fullmatch(pattern, told)
    assert seconds < 20


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_rank_is_named(group, rank, monkeypatch):
    told, seconds = said(group, TRAINING, {"steps": 1_000_000}, rank, signal.SIGSTOP, monkeypatch)
    assert re.fullmatch(rf"training allreduce, step \d+: rank {rank} of 2 does not answer: it is stopped.*", told)
    assert seconds < 40


def test_the_first_that_fails_is_named_first_with_all_that_it_said(group):
    group._processes = [SimpleNamespace(poll=lambda: 1, stdin=StringIO()) for _ in range(2)]
    group._words.put((1, {"fault": "no such file", "at": "round 3", "trace": "Traceback: line 5"}))
    group._words.put((0, {"fault": "connection closed", "at": "round 3", "trace": "Traceback: line 9"}))
    with pytest.raises(RankError) as caught:
        next(group.measure([EXCHANGE], None))
    assert str(caught.value).splitlines() == [
        "exchange hggtopk 0.2 gtopk of 20000 entries, round 3: rank 1 of 2: no such file",
        "rank 0 of 2: connection closed",
        "Traceback: line 5",
    ]
    assert json.loads(group._processes[0].stdin.getvalue())["timeout_seconds"] == netbench.PATIENCE_SECONDS


def test_slow_links_are_waited_for(group, monkeypatch):
    limits = []
    monkeypatch.setattr(group, "_heard", lambda limit: limits.append(limit) or {})
    for rate in (None, 1e8, 1e6):
        monkeypatch.setattr(group, "_start", lambda rate_bits: None)
        with pytest.raises(RankError):
            next(group.measure([replace(EXCHANGE, numel=1_000_000)], rate))
    assert limits[0] == netbench.PATIENCE_SECONDS
    more = limits[1] - limits[0]
    assert 0.7 < more < 60 - netbench.PATIENCE_SECONDS - netbench.GRACE_SECONDS  # 8 MB, and a minute in all
    assert limits[2] == pytest.approx(limits[0] + 100 * more)
