"""The hook in training: equal to dense training where it must be, the same parameters on all ranks, clear refusals."""

import contextlib
import io
import re
import threading
import time
import zlib
from pathlib import Path
from unittest import mock

import pytest
import ranks
import torch
from given_gradients import Given, applied, assert_same_bits, drawn, mean, small_buckets
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lowbit import catalog
from lowbit.compressors import HISTORICAL, GradientCompressor, make
from lowbit.compressors.topk import TopK
from lowbit.distributed import TORCH_HOOKS, Exchange, Group, Layout, Part, register_sparse_hook, register_torch_hook
from lowbit.distributed.replicas import digest
from lowbit.errors import RankError, SettingError, UserError
from lowbit.feedback.residual import Residual
from lowbit.schemes import Wire

COMPRESSORS = sorted({*HISTORICAL, *catalog.available("compressors")})
SCHEMES = [s for s in catalog.available("schemes") if s != "shared"]
PAIRS = [(c, "allgather") for c in COMPRESSORS] + [("randomk", "shared"), ("randomkec", "shared")]
PAIRS += [(c, s) for c in ("hggtopk", "gaussian") for s in SCHEMES if s != "allgather"]
OTHERS = [(c, s) for c in COMPRESSORS for s in SCHEMES if (c, s) not in PAIRS]


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 4))


def train(model: nn.Module, rank: int, steps: int, lr: float = 0.05) -> list[Tensor]:
    """Parameters after some steps on data of this rank."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    draws = torch.Generator().manual_seed(rank)
    for _ in range(steps):
        images = torch.randn(8, 12, generator=draws)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), (images[:, 0] > 0).long()).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def descend(rank: int, compressor: str, scheme: str, steps: int = 200) -> tuple[int, bool]:
    """Bits of 300 numbers after steps towards a point of each rank's own, and whether they came nearer the mean."""
    exchange = Exchange(
        make(compressor), catalog.build("schemes", {"name": scheme}), Wire(torch.distributed.group.WORLD)
    )
    layout = Layout((Group((Part("w", 0, 280),)),), (Part("b", 280, 20),))
    goals = [torch.randn(300, generator=torch.Generator().manual_seed(r)) for r in range(exchange.between.world)]
    numbers = torch.zeros(300)
    for _ in range(steps):
        gradient = (numbers - goals[rank]) * (1 + numbers.abs())
        exchange.mean(gradient, layout, 0.05)
        numbers -= 0.02 * gradient
    left = [float((x - torch.stack(goals).mean(0)).norm()) for x in (numbers, torch.zeros(300))]
    return zlib.crc32(numbers.numpy().tobytes()), left[0] < left[1]


def some_pairs(rank: int, world: int, pairs: list[tuple[str, str]], steps: int = 200) -> dict:
    return {pair: descend(rank, *pair, steps) for pair in pairs}


def networks(rank: int, world: int, pairs: list[tuple[str, str]]) -> dict:
    """Of some pairs; and the parameters of a network in DistributedDataParallel, with what varies in the hook."""
    found = some_pairs(rank, world, pairs)
    ways = [{}, {"scheme": {"name": "dense", "dtype": "bfloat16"}, "dense_dtype": torch.bfloat16}]
    for way in [*ways, {"ranks_per_node": 2}] if world > 2 else ways:
        model = DistributedDataParallel(small_network())
        start = digest(model)
        hook = register_sparse_hook(model, density=0.05, check_every=50, **way)
        train(model, rank, 200)
        assert hook.step == 200
        found |= {f"network, {way}": (digest(model), digest(model) != start)}
    return found


def test_every_compressor_with_every_scheme_gives_the_same_bits_on_three_ranks():
    """Of three a sum depends on its order, which shows in a few steps."""
    results = ranks.run(some_pairs, 3, [*PAIRS, *OTHERS], 20)
    assert len(results[0]) == len(COMPRESSORS) * len(SCHEMES) + 2
    assert results[0] == results[1] == results[2]
    assert all(nearer for _, nearer in results[0].values())


@pytest.mark.parametrize(("world", "pairs"), [(2, PAIRS), (4, [])])
def test_parameters_are_the_same_bits_on_all_ranks_after_200_steps(world, pairs):
    results = ranks.run(networks, world, pairs)
    assert all(result == results[0] for result in results)
    assert all(nearer for _, nearer in results[0].values())
    assert len({bits for bits, _ in results[0].values()}) > len(pairs) / 2


# With a residual and without (topk2, randomk), with k entries and with as many as there are above a threshold.
WITH_ALL = (("hggtopk", 1.0), ("gaussian", 1.0), ("topk2", 1.0), ("randomk", 1.0), ("none", 0.01))


def densely(rank: int, world: int) -> dict:
    """Parameters after 20 steps: of PyTorch's default, of its hook, and of ours at density 1."""
    found = {}
    for cap in (25, 0.0005):
        plain = DistributedDataParallel(small_network(), bucket_cap_mb=cap)
        found["default", cap] = train(plain, rank, 20)
        theirs = DistributedDataParallel(small_network(), bucket_cap_mb=cap)
        register_torch_hook(theirs, "allreduce")
        found["allreduce", cap] = train(theirs, rank, 20)
        for compressor, density in WITH_ALL:
            ours = DistributedDataParallel(small_network(), bucket_cap_mb=cap)
            hook = register_sparse_hook(ours, compressor, density)
            found[compressor, cap] = train(ours, rank, 20)
            sent = sum(p.numel() for p in ours.parameters()) * 4 * 2 * (world - 1) / world
            assert sent - 3 <= hook.wire_bytes <= sent
    return found


@pytest.mark.parametrize("world", [2, 3])
def test_density_one_is_dense_training(world):
    results = ranks.run(densely, world)
    for cap in (25, 0.0005):
        for compressor, _ in WITH_ALL:
            for name in ("allreduce", "default") if world == 2 else ("allreduce",):
                for ours, theirs in zip(results[0][compressor, cap], results[0][name, cap], strict=True):
                    assert torch.equal(ours, theirs), (compressor, name)
    for name in results[0]:
        for one, other in zip(results[0][name], results[1][name], strict=True):
            assert torch.equal(one, other), name


def various(rank: int, world: int) -> dict:
    """Several settings, one after the other."""
    found = {}
    model = small_buckets()
    hook = register_sparse_hook(model, "topk", 0.05, warmup=(0.5, 0.2), warmup_steps=2, check_every=2)
    found["densities"], found["nonzero"], found["bytes"] = [], [], []
    for step in range(5):
        found["densities"].append(hook.density)
        model(drawn(0, step)).backward()  # the same on both ranks: k entries of each matrix
        found["nonzero"].append(int(torch.count_nonzero(applied(model)["first"])))
        found["bytes"].append(hook.wire_bytes)

    narrow = DistributedDataParallel(Given().to(torch.bfloat16))
    register_sparse_hook(narrow, "topk", 0.05, dense_dtype=torch.float32)
    narrow({n: g.to(torch.bfloat16) for n, g in drawn(rank, 0).items()}).backward()
    found["narrow"] = {n: g.float() for n, g in applied(narrow).items()}

    for name in TORCH_HOOKS:
        settings = {"start_powerSGD_iter": 2, "matrix_approximation_rank": 2} if name == "powersgd" else {}
        theirs = DistributedDataParallel(small_network(), bucket_cap_mb=0.0005)
        counted = register_torch_hook(theirs, name, **settings)
        moved = train(theirs, rank, 5)
        found[name] = counted.wire_bytes, float(moved[0].sum()), counted.sent_bytes
    return found


@pytest.fixture(scope="module")
def two() -> list[dict]:
    return ranks.run(various, 2)


def test_density_warms_up(two):
    assert two[0]["densities"] == [0.5, 0.5, 0.2, 0.2, 0.05]
    assert two[0]["nonzero"] == [600, 600, 240, 240, 60]
    entries = [600 + 250 + 150] * 2 + [240 + 100 + 60] * 2 + [60 + 25 + 15]
    assert two[0]["bytes"] == [8 * n + 4 * 8 for n in entries]  # one peer: entries of 8 bytes; bias and single number


def test_narrow_gradients_are_summed_in_float32(two):
    assert_same_bits([found["narrow"] for found in two])
    expected = mean(*({n: g.bfloat16().float() for n, g in drawn(rank, 0).items()} for rank in range(2)))
    for name in ("bias", "single"):  # of one dimension, and too small to be compressed
        assert torch.equal(two[0]["narrow"][name], expected[name].bfloat16().float())
    assert int(torch.count_nonzero(two[0]["narrow"]["first"])) >= 60


def test_hooks_of_pytorch_are_counted(two):
    length = sum(p.numel() for p in small_network().parameters())
    sent = {name: two[0][name][0] for name in TORCH_HOOKS}
    factors = 2 * (16 + 12) + 4 * 16 + 16 + 4  # the second matrix is too small for two of rank 2 to be worth it
    assert sent == {
        "allreduce": 4 * length,
        "fp16": 2 * length,
        "bf16": 2 * length,
        "powersgd": 4 * factors,
        "noop": 0,
    }
    assert two[0]["powersgd"][2] == 2 * 4 * length + 3 * 4 * factors
    assert [two[0][n][1] == two[1][n][1] for n in TORCH_HOOKS] == [True, True, True, True, False]


def overlapped(rank: int, world: int) -> list[list[bool]]:
    """Whether exchanges of buckets could wait for backward to reach the first layer, with and without pipeline."""
    found = []
    for pipeline in (True, False):
        model = small_buckets()
        hook, reached, waited = register_sparse_hook(model, "topk", 0.1, pipeline=pipeline), threading.Event(), []
        mean = hook.exchange.mean

        def late(*arguments, mean=mean, reached=reached, waited=waited, seconds=20 if pipeline else 0.1, **settings):
            waited.append(reached.wait(seconds))
            return mean(*arguments, **settings)

        gradients = {n: g.requires_grad_() for n, g in drawn(rank, 0).items()}
        model(gradients).backward()  # once without, for the buckets to be formed anew
        hook.exchange.mean = late
        last = next(
            iter(model.module.parameters())
        )  # whose bucket is the last: it was formed from the gradients' order
        last.register_hook(lambda gradient, reached=reached: reached.set())
        model(gradients).backward()
        found.append(waited)
    return found


def test_backward_goes_on_while_buckets_are_exchanged():
    with_pipeline, without = ranks.run(overlapped, 1)[0]
    assert len(with_pipeline) > 1
    assert all(with_pipeline)
    assert not all(without)


def as_documented(rank: int, world: int) -> str:
    """The ten lines of the page, on any network; then its other loop."""
    page = (Path(__file__).parents[2] / "docs/distributed.md").read_text()
    first, _, other = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    data = torch.randn(4, 6, 12, generator=torch.Generator().manual_seed(rank))
    batches = [(x, (x[:, 0] > 0).long()) for x in data]
    with mock.patch("torch.distributed.init_process_group"), contextlib.redirect_stdout(io.StringIO()) as said:
        exec(first, given := {"network": small_network(), "batches": batches, "loss": nn.functional.cross_entropy})
    assert len([line for line in first.splitlines() if line and not line.startswith(("import", "from"))]) <= 10
    assert given["hook"].step == 4
    exec(other, {**globals(), "dist": torch.distributed, "gradient": torch.randn(5010)})
    return said.getvalue()


def test_the_documentation_shows_what_works():
    one, other = ranks.run(as_documented, 2)
    assert one == other
    assert "kept/0.weight:residual" in one


def in_turn(rank: int, world: int) -> list[bool]:
    """Whether each bucket of PowerSGD is handed on after those before it; rank 1 is late, so that none ends at once."""
    model = small_buckets()
    hook = register_torch_hook(model, "powersgd", start_powerSGD_iter=2)
    inner, futures, found = hook._hook, [], []

    def noted(state, bucket):
        found.append(all(future.done() for future in futures))
        futures.append(inner(state, bucket))
        return futures[-1]

    hook._hook = noted
    for step in range(4):
        time.sleep(0.2 * rank)
        model(drawn(rank, step)).backward()
        futures.clear()
    return found


def test_powersgd_takes_one_bucket_at_a_time():
    """Its callbacks send messages, which gloo would run in another order on every rank."""
    found = ranks.run(in_turn, 2)[0]
    assert len(found) > 4
    assert all(found)


def closed(rank: int, world: int) -> str:
    model = small_buckets()
    hook = register_sparse_hook(model, "topk", 0.1)
    model(drawn(rank, 0)).backward()
    hook.close()
    with pytest.raises(UserError) as caught:
        model(drawn(rank, 1)).backward()
    return str(caught.value)


def test_a_closed_hook_does_not_hang():
    assert all(told.startswith("this hook is closed") for told in ranks.run(closed, 2, seconds=40))


def diverged(rank: int, world: int) -> str:
    model = DistributedDataParallel(small_network())
    register_sparse_hook(model, "topk", 0.1, check_every=3)
    train(model, rank, 2)
    with torch.no_grad():
        next(model.parameters())[0, 0] += rank * 2**-20
    with pytest.raises(RankError) as caught:
        train(model, rank, 4)
    return str(caught.value)


def test_ranks_that_have_drifted_apart_are_named():
    told = ranks.run(diverged, 3)
    assert told[0] == told[1] == told[2]
    assert told[0].startswith("after step 3: parameters of rank 1, 2 differ from those of rank 0")


def refused(rank: int, world: int) -> list[str]:
    told = []
    for settings in (
        {"density": 0.0},
        {"density": 0.1, "warmup": (2.0,), "warmup_steps": 3},
        {"warmup": (0.1,)},
        {"granularity": "buckets"},
        {"scheme": "gtop"},
        {"scheme": {"name": "dense", "dtype": "int8"}},
        {"compressor": "hggtop"},
        {"scheme": "shared"},
        {"scheme": "shared", "compressor": "dgcsampling"},
        {"ranks_per_node": 3},
        {"ranks_per_node": 0},
        {"compressor": {"name": "topk", "feedback": {"name": "momentum_correction", "clip": 1.0}}, "ranks_per_node": 4},
        {"compressor": GradientCompressor(TopK(), Residual(), nonfinite="skip")},
        {"compressor": {"name": "topk", "feedback": {"name": "momentum_correction", "warmup": (0.5,)}}},
        {"compressor": {"name": "topk", "feedback": {"name": "momentum_correction", "clip": 1.0}}},
    ):
        with pytest.raises((SettingError, ValidationError)) as caught:
            register_sparse_hook(small_buckets(), **settings)
        told.append(str(caught.value))
    for name, settings in (("powersdg", {}), ("fp16", {"matrix_approximation_rank": 1})):
        with pytest.raises(SettingError) as caught:
            register_torch_hook(small_buckets(), name, **settings)
        told.append(str(caught.value))
    return told


def test_settings_that_cannot_be_are_refused():
    told = ranks.run(refused, 2)[0]
    for text, words in zip(
        told,
        [
            "density 0.0, warm-up (): must be in (0, 1]",
            "density 0.1, warm-up (2.0,): must be in (0, 1]",
            "1 stages of 0 steps: a warm-up needs both, or neither",
            "did you mean 'bucket'",
            "did you mean 'gtopk'",
            "Input should be",
            "did you mean 'hggtopk'",
            "use compressor randomk",
            "use compressor randomk",
            "3 ranks in a node: must divide the number of ranks, 2",
            "0 ranks in a node: must divide the number of ranks, 2",
            "4 ranks in a node: must divide the number of ranks, 2",
            "nonfinite 'skip': would leave other indices",
            "use warmup= and warmup_steps=",
            "feedback.workers 1: the norm is shared among 2",
            "did you mean 'powersgd'",
            "hook fp16: takes no settings, got matrix_approximation_rank",
        ],
        strict=True,
    ):
        assert words in text
