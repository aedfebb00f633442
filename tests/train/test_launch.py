"""Ranks that hang are given up within a minute, and the sooner the more is known."""

import inspect
import multiprocessing
import os
import signal
import time

import pytest

from lowbit.distributed.watch import Watch
from lowbit.errors import LostRankError, RankError, UserError
from lowbit.exchange_spec import Exchange
from lowbit.train import launch
from lowbit.train.launch import Told

_FORK = multiprocessing.get_context("fork")


def ends_with(pipe, told):
    pipe.send(told)
    pipe.close()
    os._exit(1)


def is_stopped(pipe, told):
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.fixture
def awaited(monkeypatch):
    """What a stopped rank and one that ends are said to have done, and after how long."""
    monkeypatch.setattr(launch, "VERDICT_SECONDS", 0.3)
    monkeypatch.setattr(launch, "GRACE_SECONDS", 2.0)
    processes = []

    def awaiting(told: Told) -> tuple[list[Told], float]:
        pipes = []
        for function in (ends_with, is_stopped):
            ours, theirs = _FORK.Pipe(duplex=False)
            processes.append(_FORK.Process(target=function, args=(theirs, told)))
            processes[-1].start()
            theirs.close()
            pipes.append(ours)
        begun = time.monotonic()
        return launch._await(processes, pipes), time.monotonic() - begun

    yield awaiting
    for process in processes:
        process.kill()
        process.join()


def test_a_stopped_rank_is_not_waited_for_once_the_others_know(awaited):
    found, seconds = awaited(Told(fault="step 3: rank 1 of 2 does not answer", verdict=True))
    assert [told.lost for told in found] == ["", "hangs, and was killed"]
    assert 0.3 <= seconds < 1.5


def test_it_is_waited_for_while_they_may_be_finding_out(awaited):
    found, seconds = awaited(Told(fault="gradient of fc.weight: 3 NaN"))
    assert found[1].lost == "hangs, and was killed"
    assert seconds >= 2.0


def test_only_a_roll_call_says_who_is_missing():
    assert launch._told(LostRankError("step 3: rank 1 of 2 does not answer")).verdict
    assert not launch._told(RankError("step 3: another rank has ended or cannot be reached")).verdict
    assert not launch._told(UserError("gradient of fc.weight: 3 NaN")).verdict


def test_all_of_it_takes_less_than_45_seconds():
    watch = {name: p.default for name, p in inspect.signature(Watch).parameters.items()}
    roll = 2 * watch["poll_seconds"] + watch["patience_seconds"]
    assert Exchange().timeout_seconds + roll + launch.VERDICT_SECONDS <= 45
    assert roll + watch["poll_seconds"] < launch.GRACE_SECONDS, "the others are still finding out"
