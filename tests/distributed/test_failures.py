"""A rank that dies, hangs, stops or fails: all ranks end within a minute, and say which rank it was, at which step."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import ranks
import torch
from given_gradients import drawn, small_buckets

from lowbit.distributed import register_sparse_hook

STEP = 4
TIMEOUT_SECONDS = 5.0


def train_until(rank: int, world: int, what: str, scheme: str) -> None:
    """Train; rank 1 does something at the beginning of the fourth step."""
    model, settings = small_buckets(), {"dense_dtype": torch.float16} if what == "overflows" else {}
    register_sparse_hook(model, "topk", density=0.05, scheme=scheme, timeout_seconds=TIMEOUT_SECONDS, **settings)
    for step in range(1, 7):
        gradients = drawn(rank, step)
        if rank == 1 and step == STEP:
            match what:
                case "dies":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "ends":
                    os._exit(0)
                case "hangs":
                    time.sleep(1000)
                case "comes late":
                    time.sleep(TIMEOUT_SECONDS + 5)
                case "is stopped":
                    os.kill(os.getpid(), signal.SIGSTOP)
                case "fails":
                    gradients["first"][3, 3] = float("nan")
                case "fails in a bias":
                    gradients["bias"][2] = float("inf")
                case "overflows":
                    gradients["bias"][2] = 1e5
                case "raises":
                    raise ValueError("no such file")
                case "hangs in backward":
                    gradients["first"].requires_grad_()
                    model.module.weights["first"].register_hook(lambda g: time.sleep(1000))
        model(gradients).backward()


SAID = {
    "dies": "rank 1 of 3 does not answer",
    "ends": "rank 1 of 3 does not answer",
    "hangs": "rank 1 of 3 is in step 4, computing for",
    "hangs in backward": "rank 1 of 3 is in step 4, computing for",
    "comes late": "rank 1 of 3 is in step 4, computing for",
    "is stopped": "rank 1 of 3 does not answer",
    "fails": "rank 1 of 3 failed: gradient of weights.first: 1 NaN and 0 infinite entries of 1200",
    "fails in a bias": "rank 1 of 3 failed: gradient of weights.bias: 0 NaN and 1 infinite entries of 7",
    "raises": "rank 1 of 3 does not answer",
}


CASES = [*((what, "allgather") for what in SAID), ("dies", "gtopk"), ("hangs", "oktopk")]
OVERFLOW = ("overflows", "allgather")


@pytest.fixture(scope="module")
def endings() -> dict[tuple[str, str], list[ranks.Ended]]:
    """Of all cases, which mostly wait, at the same time."""

    def ending(case: tuple[str, str]) -> list[ranks.Ended]:
        return ranks.endings(train_until, 3, *case, seconds=50, without=(1,) if case[0] == "is stopped" else ())

    with ThreadPoolExecutor() as pool:
        cases = [*CASES, OVERFLOW]
        return dict(zip(cases, pool.map(ending, cases), strict=True))


@pytest.mark.parametrize(("what", "scheme"), CASES)
def test_the_job_ends_within_a_minute_and_says_why(endings, what, scheme):
    ended = endings[what, scheme]
    for rank in (0, 2):
        assert ended[rank].status == 3, ended[rank].error
        assert ended[rank].error.startswith(f"LostRankError: step {STEP}: "), ended[rank].error
        assert SAID[what] in ended[rank].error
        assert ended[rank].seconds < 40
    if what.startswith("hangs"):  # nobody waits for it, and it does not stay
        assert ended[1].status == 1
        assert ended[1].seconds < 40
    if what == "comes late":
        assert ended[1].status == 3
        assert ended[1].error.split("\n")[0] == ended[0].error.split("\n")[0]
    if what == "is stopped":  # until somebody lets it go on, here to its end
        assert ended[1].status == -signal.SIGKILL
    if what.startswith("fails"):
        assert ended[1].error.startswith("NonFiniteError: gradient of weights.")
        assert "start again from a checkpoint" in ended[1].error


def test_a_dense_sum_that_overflows_ends_the_job_on_all_ranks(endings):
    for ended in endings[OVERFLOW]:
        assert ended.status == 3
        assert "sums of gradients overflow torch.float16" in ended.error
        assert ended.seconds < 40


def first(rank: int, world: int, what: str) -> None:
    """As above, but it is the rank that keeps the store."""
    train_until(1 - rank if rank < 2 else rank, world, what, "allgather")


@pytest.mark.parametrize("what", ["dies", "is stopped"])
def test_ranks_end_when_the_one_that_keeps_the_store_is_lost(what):
    ended = ranks.endings(first, 3, what, seconds=50, tcp=True, without=(0,))
    assert ended[0].status == -signal.SIGKILL
    for rank in (1, 2):
        assert ended[rank].status == 3
        assert ended[rank].error.startswith(f"LostRankError: step {STEP}: the store")
        assert "the rank that keeps it" in ended[rank].error
        assert ended[rank].seconds < 40


def finish_first(rank: int, world: int) -> None:
    """The rank that keeps the store leaves; the watch of the other must not take that for a loss."""
    model = small_buckets()
    hook = register_sparse_hook(model, "topk", density=0.05)
    model(drawn(rank, 0)).backward()
    torch.distributed.barrier()
    if rank == 1:
        time.sleep(2.5)
    os._exit(7 if hook._watch.verdict is None else 8)


def test_a_rank_may_finish_before_the_others():
    assert [end.status for end in ranks.endings(finish_first, 2, tcp=True, seconds=40)] == [7, 7]
