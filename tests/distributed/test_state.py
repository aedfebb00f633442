"""Checkpoints: the same bits with as many ranks, the same sum with more or fewer."""

import pytest
import ranks
import torch
from given_gradients import SHAPES, applied, assert_same, assert_same_bits, drawn, mean, owed, small_buckets, total
from torch import Tensor

from lowbit.distributed import register_sparse_hook
from lowbit.errors import UserError

WAYS = {
    "hggtopk": {},
    "gaussian": {"compressor": "gaussian"},
    "balanced": {"scheme": "oktopk"},
    "shared": {"compressor": "randomkec", "scheme": "shared"},
    "momentum": {"compressor": {"name": "topk", "feedback": {"name": "momentum_correction"}}},
    "buckets": {"granularity": "bucket"},
    "nodes": {"ranks_per_node": 2},
}


def go_on(rank: int, world: int, steps: range, saved: dict | None) -> dict:
    """Gradients applied in some steps of every way, and the state after each, from the states of all ranks before."""
    found = {}
    for name, settings in WAYS.items():
        if world % settings.get("ranks_per_node", 1):
            continue
        model = small_buckets()
        hook = register_sparse_hook(model, density=0.05, **settings)
        if saved:
            hook.load_state_dict(*saved[name])
        done = []
        for step in steps:
            model(drawn(rank, step)).backward()
            done.append(applied(model))
        assert hook.step == steps.stop
        found[name] = done, hook.state_dict(), owed(hook)
        hook.close()
    return found


@pytest.fixture(scope="module")
def saved() -> list[dict]:
    """After three steps of four ranks."""
    return ranks.run(go_on, 4, range(3), None)


def states(results: list[dict]) -> dict[str, list[dict[str, Tensor]]]:
    return {name: [found[name][1] for found in results] for name in results[0]}


def test_as_many_ranks_go_on_bit_by_bit():
    """Two ranks: the order in which an all-reduce sums more depends on buckets, which are formed anew."""
    whole = ranks.run(go_on, 2, range(6), None)
    later = ranks.run(go_on, 2, range(3, 6), states(ranks.run(go_on, 2, range(3), None)))
    for name in WAYS.keys() - {"buckets", "balanced"}:  # what these choose depends on buckets too
        for rank in range(2):
            for one, other in zip(whole[rank][name][0][3:], later[rank][name][0], strict=True):
                assert all(torch.equal(one[n], other[n]) for n in SHAPES), name
            first, second = whole[rank][name][1], later[rank][name][1]
            assert first.keys() == second.keys()
            assert all(torch.equal(first[key], second[key]) for key in first), name


def flushed(rank: int, world: int, saved: dict) -> dict:
    """What this rank owes after loading; and what an exchange of zeros at density 1 applies then."""
    found = {}
    for name, settings in WAYS.items():
        if world % settings.get("ranks_per_node", 1) or "momentum" in name:
            continue
        model = small_buckets()
        hook = register_sparse_hook(model, density=1.0, **settings)
        hook.load_state_dict(*saved[name])
        before = owed(hook)
        model({n: torch.zeros(shape) for n, shape in SHAPES.items()}).backward()
        found[name] = before, applied(model), owed(hook)
        hook.close()
    return found


@pytest.mark.parametrize("world", [2, 3, 6])
def test_another_number_of_ranks_owes_the_same(saved, world):
    results = ranks.run(flushed, world, states(saved))
    for name in results[0]:
        before = total(*(found[name][2] for found in saved))
        assert_same(total(*(found[name][0] for found in results)), before)
        assert_same_bits([found[name][1] for found in results])
        assert_same(results[0][name][1], before)  # all that was owed is applied, once
        assert not any(t.any() for found in results for t in found[name][2].values())
        everything = mean(*(total(*(drawn(rank, step) for step in range(3))) for rank in range(4)))
        assert_same(total(*saved[0][name][0], results[0][name][1]), everything)


def mixed(rank: int, world: int, saved: dict) -> list[str]:
    hook = register_sparse_hook(small_buckets())
    told = []
    four = saved["hggtopk"]
    other_step = [{**four[0], "step": four[0]["step"] + 1}, *four[1:]]
    for wrong in ([], four[:3], [*four, four[0]], other_step, [four[0], *four[:3]]):
        with pytest.raises(UserError) as caught:
            hook.load_state_dict(*wrong)
        told.append(str(caught.value))
    return told


def test_states_that_do_not_belong_together_are_refused(saved):
    told = ranks.run(mixed, 1, states(saved))[0]
    assert all("must be those of all ranks at one step; load all of one save" in text for text in told)
    assert "rank 0 of 4 at step 4, rank 1 of 4 at step 3" in told[3]
