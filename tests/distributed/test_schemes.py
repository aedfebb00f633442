"""Schemes between two to four processes: the mean, the same bits on all, nothing lost, as many bytes as said."""

import pytest
import ranks
import torch
from torch import Tensor

from lowbit import catalog, cost
from lowbit.compressors import Sparse
from lowbit.schemes import Message, Wire

N, K = 1003, 50
NAMES = catalog.available("schemes")
SUMS_ALL = ("dense", "allgather", "shared")  # refuse nothing


def sent_by(rank: int, case: str, dtype: torch.dtype, same_indices: bool) -> Message:
    """What a rank sends; indices are the same on all ranks where a scheme needs that."""
    draws = torch.Generator().manual_seed(1 if same_indices else rank)
    counts = {"everything": N, "even": K, "uneven": K if same_indices else 13 * rank, "nothing": 0}
    indices = torch.randperm(N, generator=draws)[: counts[case]].to(torch.int32)
    values = torch.randn(N, generator=torch.Generator().manual_seed(100 + rank))[: counts[case]].to(dtype)
    k = counts[case] if case in ("everything", "even") else K
    return Message(values, indices, N, k, even=case in ("everything", "even"))


CASES = [(c, d) for c in ("everything", "even", "uneven", "nothing") for d in (torch.float32, torch.float64)]


def exchange_all(rank: int, world: int) -> dict:
    """Mean, what is refused, and bytes, of every scheme and case."""
    found = {}
    for name in NAMES:
        scheme = catalog.build("schemes", {"name": name})
        for case, dtype in CASES:
            wire = Wire(torch.distributed.group.WORLD)
            into = torch.zeros(N, dtype=dtype)
            refused = scheme.exchange(sent_by(rank, case, dtype, scheme.shared), into, wire)
            found[name, case, dtype] = (
                into,
                refused,
                wire.sent_bytes,
                wire.sent_messages,
                wire.messages,
                wire.bytes_in_row,
            )
    return found


@pytest.fixture(scope="module", params=[2, 3, 4])
def results(request) -> list[dict]:
    return ranks.run(exchange_all, request.param)


def dense_sent(name: str, case: str, dtype: torch.dtype, world: int) -> list[Tensor]:
    scheme = catalog.build("schemes", {"name": name})
    return [sent_by(rank, case, dtype, scheme.shared).dense() for rank in range(world)]


@pytest.mark.parametrize(("case", "dtype"), CASES)
@pytest.mark.parametrize("name", NAMES)
def test_all_ranks_get_the_same_bits_and_nothing_is_lost(results, name, case, dtype):
    world, bits = len(results), torch.int64 if dtype == torch.float64 else torch.int32
    means = [found[name, case, dtype][0] for found in results]
    assert means[0].dtype == dtype
    assert all(torch.equal(mean.view(bits), means[0].view(bits)) for mean in means)
    total = torch.stack(dense_sent(name, case, torch.float64, world)).sum(0)
    kept = [refused for found in results if (refused := found[name, case, dtype][1]) is not None]
    assert (not kept) == (name in SUMS_ALL)
    back = sum(
        (Sparse(s.values.double(), s.indices, s.shape).dense() for s in kept), torch.zeros(N, dtype=torch.float64)
    )
    rounding = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
    torch.testing.assert_close(world * means[0].double() + back, total, rtol=0, atol=rounding * world)


@pytest.mark.parametrize("name", NAMES)
def test_everything_sent_is_the_dense_mean(results, name):
    mean, refused, *_ = results[0][name, "everything", torch.float32]
    expected = torch.stack(dense_sent(name, "everything", torch.float32, len(results))).mean(0)
    assert refused is None or not len(refused.values)
    if len(results) == 2:  # one sum and a power of two: the arithmetic is the same
        assert torch.equal(mean, expected)
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", ["even", "uneven"])
def test_sums_are_those_of_the_entries_sent(results, case):
    world = len(results)
    for name in SUMS_ALL:
        expected = sum(d / world for d in dense_sent(name, case, torch.float32, world))
        torch.testing.assert_close(results[0][name, case, torch.float32][0], expected, rtol=0, atol=1e-6)
    added = torch.zeros(N)
    for dense in dense_sent("allgather", case, torch.float32, world):
        added += dense / world
    assert torch.equal(results[0]["allgather", case, torch.float32][0], added)  # in rank order


def test_gtopk_applies_the_largest_sums_of_two_ranks(results):
    if len(results) == 2:
        total = torch.stack(dense_sent("gtopk", "even", torch.float32, 2)).sum(0)
        largest = torch.zeros(N).index_put((total.abs().topk(K).indices,), total[total.abs().topk(K).indices])
        assert torch.equal(2 * results[0]["gtopk", "even", torch.float32][0], largest)


@pytest.mark.parametrize("name", ["gtopk", "oktopk"])
def test_no_more_than_k_entries_are_applied(results, name):
    quota = -(-K // len(results)) * len(results) if name == "oktopk" else K
    for case in ("even", "uneven"):
        applied = int(torch.count_nonzero(results[0][name, case, torch.float32][0]))
        assert 0 < applied <= quota
        if case == "even" and name == "gtopk":
            assert applied == K


def test_bytes_are_those_of_the_formulas(results):
    world = len(results)
    entry = 8  # a float32 and an int32
    total = {
        "dense": 2 * (world - 1) * 4 * N,
        "allgather": world * (world - 1) * K * entry,
        "shared": 2 * (world - 1) * 4 * K,
        "gtopk": 2 * (world - 1) * K * entry,
    }
    for name, expected in total.items():
        sent = sum(found[name, "even", torch.float32][2] for found in results)
        assert expected - world < sent <= expected, name
    quota = -(-K // world)
    heads = 2 * (world - 1) * 8 * (world - 1) + world * (world - 1) * 8
    gathered = world * (world - 1) * quota * entry
    sent = sum(found["oktopk", "even", torch.float32][2] for found in results)
    assert sent - heads - gathered == pytest.approx((world - 1) * K * entry, rel=0.15)


def test_bytes_and_messages_are_those_of_the_cost_model(results):
    world = len(results)
    for name in NAMES:
        found = [found[name, "even", torch.float32][2:4] for found in results]
        sent, messages = (sum(column) / world for column in zip(*found, strict=True))
        asked = cost.volume(name, world, N, K / N)
        slack = 0.15 if name == "oktopk" else 0.01
        assert sent == pytest.approx(asked.sent, rel=slack, abs=8 * world), name
        if name == "gtopk":  # the mean over the ranks of a tree, most of which send once and receive once
            assert messages == pytest.approx(2 * (world - 1) / world)
        elif name != "oktopk":
            assert messages == 2 * asked.messages, name  # gloo's rings go round in two halves, side by side
        else:
            bounds = 2 * (world - 1) / world * min(2 * world, world - 1)
            assert messages == pytest.approx(bounds + 4 * (world - 1))
    uneven = sum(found["allgather", "uneven", torch.float32][3] for found in results) / world
    assert uneven == 2 * 2 * cost.volume("allgather", world, N, K / N).messages


def test_messages_in_a_row_are_those_of_the_cost_model(results):
    world = len(results)
    for name in NAMES:
        waited = max(found[name, "even", torch.float32][4] for found in results)
        assert waited == cost.volume(name, world, N, K / N).messages, name


def test_bytes_in_a_row_are_those_of_the_cost_model_on_rank_0(results):
    world = len(results)
    for name in NAMES:
        in_row = [found[name, "even", torch.float32][5] for found in results]
        slack = 0.15 if name == "oktopk" else 0.01  # parts of ranks are about as large
        assert in_row[0] == pytest.approx(cost.volume(name, world, N, K / N).in_row, rel=slack, abs=8 * world), name
        assert name == "oktopk" or in_row[0] == max(in_row), name


def test_one_rank_alone_sends_nothing():
    for name in NAMES:
        scheme, wire, into = catalog.build("schemes", {"name": name}), Wire(None), torch.zeros(N)
        message = sent_by(0, "even", torch.float32, False)
        scheme.exchange(message, into, wire)
        assert wire.sent_bytes == 0
        assert torch.equal(into, message.dense())


def test_sixteen_bits_are_those_of_pytorch():
    assert all(ranks.run(same_as_pytorch, 2))


def same_as_pytorch(rank: int, world: int) -> bool:
    """Whether the dense scheme in 16 bits computes what PyTorch's hooks compute."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook, fp16_compress_hook

    same = []
    for dtype, hook in (("float16", fp16_compress_hook), ("bfloat16", bf16_compress_hook)):
        message, into = sent_by(rank, "everything", torch.float32, False), torch.zeros(N)
        theirs = hook(torch.distributed.group.WORLD, (message.dense(),)).wait()
        catalog.build("schemes", {"name": "dense", "dtype": dtype}).exchange(
            message, into, Wire(torch.distributed.group.WORLD)
        )
        same.append(torch.equal(theirs, into))
    return all(same)
