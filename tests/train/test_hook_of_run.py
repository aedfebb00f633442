"""What a spec's exchange becomes: arguments of the hook, and what is told of a step, number by number."""

import itertools
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
import torch
from small_runs import small_spec

from lowbit.compressors.randomk import RandomK
from lowbit.compressors.topk import TopK
from lowbit.distributed.ddp_hook import register_sparse_hook
from lowbit.distributed.torch_hooks import TORCH_HOOKS, TorchHook, register_torch_hook
from lowbit.feedback.momentum_correction import MomentumCorrection
from lowbit.feedback.none import NoFeedback
from lowbit.train import hook
from lowbit.train.clock import Clock
from lowbit.train.data_parallel import DataParallel
from lowbit.train.parallel import Ranks
from lowbit.train.reproducibility import derived_seed

MODEL = object()


def registered(monkeypatch, seed: int = 3, rank: int = 0, **exchange: Any) -> tuple[str, tuple, dict[str, Any]]:
    """Which hook is registered, and with which arguments; they must be such as it has."""
    made = []
    for name, real in (("torch", register_torch_hook), ("sparse", register_sparse_hook)):
        note = create_autospec(real, side_effect=lambda *a, kind=name, **k: made.append((kind, a, k)))
        monkeypatch.setattr(hook, real.__name__, note)
    plain = {"optimizer": "sgd", "momentum": 0} if "feedback" in exchange else {}
    spec = small_spec("vit", seed=seed, exchange=exchange, train=plain)
    batches = SimpleNamespace(steps_per_epoch=6)
    hook.hook_of(MODEL, SimpleNamespace(spec=spec, batches=batches, ranks=Ranks(rank, spec.ranks)))
    ((kind, arguments, settings),) = made
    assert arguments[0] is MODEL
    return kind, arguments[1:], settings


@pytest.mark.parametrize("method", [name for name in TORCH_HOOKS if name != "powersgd"])
def test_hooks_of_pytorch_take_no_settings(method, monkeypatch):
    assert registered(monkeypatch, method=method) == ("torch", (method,), {})


@pytest.mark.parametrize("rank", [0, 1])
def test_powersgd_begins_with_step_three_and_draws_alike_on_all_ranks(rank, monkeypatch):
    kind, arguments, settings = registered(monkeypatch, rank=rank, method="powersgd", matrix_rank=4)
    drawn = derived_seed(3, "PowerSGD") % 2**32
    assert (kind, arguments) == ("torch", ("powersgd",))
    assert settings == {"matrix_approximation_rank": 4, "start_powerSGD_iter": 2, "random_seed": drawn}
    assert registered(monkeypatch, seed=4, method="powersgd")[2]["random_seed"] != drawn


def test_a_sparse_hook_gets_every_setting(monkeypatch):
    exchange = {
        "ranks": 4, "compressor": {"name": "topk"}, "feedback": {"name": "none"}, "density": 0.02,
        "scheme": {"name": "dense", "dtype": "bfloat16"}, "granularity": "bucket", "warmup": [0.5, 0.25],
        "warmup_epochs": 1.5, "ranks_per_node": 2, "pipeline": False, "timeout_seconds": 7, "check_every_steps": 11,
    }  # fmt: skip
    kind, (session, density), settings = registered(monkeypatch, **exchange)
    assert (kind, density) == ("sparse", 0.02)
    assert (type(session.compressor), type(session.feedback)) == (TopK, NoFeedback)
    assert settings == {
        "scheme": {"name": "dense", "dtype": "bfloat16"}, "granularity": "bucket", "ranks_per_node": 2,
        "warmup": (0.5, 0.25), "warmup_steps": 9, "pipeline": False, "timeout_seconds": 7.0, "check_every": 11,
    }  # fmt: skip


def test_a_sparse_hook_without_settings_is_the_default_one(monkeypatch):
    _, (_, density), settings = registered(monkeypatch)
    assert density == 0.01
    assert settings == {
        "scheme": {"name": "allgather"}, "granularity": "layer", "ranks_per_node": 1, "warmup": (), "warmup_steps": 0,
        "pipeline": True, "timeout_seconds": 30.0, "check_every": 0,
    }  # fmt: skip


def test_a_short_warm_up_has_a_step(monkeypatch):
    assert registered(monkeypatch, warmup=[0.5], warmup_epochs=0.01)[2]["warmup_steps"] == 1


def test_feedback_keeps_its_settings(monkeypatch):
    feedback = {"name": "momentum_correction", "momentum": 0.7}
    _, (session, _), _ = registered(monkeypatch, compressor={"name": "topk"}, feedback=feedback)
    assert isinstance(session.feedback, MomentumCorrection)
    assert session.feedback.momentum == 0.7


def test_what_a_compressor_draws_is_of_the_seed_and_of_no_rank(monkeypatch):
    def drawn(seed: int, rank: int, own: int) -> int:
        _, (session, _), _ = registered(monkeypatch, seed, rank, compressor={"name": "randomk", "seed": own})
        assert isinstance(session.compressor, RandomK)
        return session.compressor.seed

    assert drawn(0, 0, 0) == drawn(0, 1, 0) == derived_seed(0, "compressor", 0)
    assert len({drawn(*of) for of in ((0, 0, 0), (1, 0, 0), (0, 0, 1), (1, 0, 1))}) == 4


class Doubled(Ranks):
    """Two ranks of which the other knows the same."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Twice the tensor."""
        return 2 * tensor


def exchange_with(counting: Any, **settings: Any) -> DataParallel:
    """An exchange whose hook counts what is given."""
    made = object.__new__(DataParallel)
    spec = small_spec("vit", exchange=settings)
    made.settings, made.hook, made.run = spec.exchange, counting, SimpleNamespace(ranks=Doubled(0, 2))
    made._entries, made.clock, made.asked = 1000, Clock("cpu"), lambda: (0, True)
    made._counted = made._counters()
    made.clock._stamp = itertools.count(100.0, 0.25).__next__
    return made


def record_of(exchange: DataParallel) -> dict[str, Any]:
    """The record of a step whose laps take 0.25 s each."""
    exchange.clock.begin()
    for lap in ("batch", "forward", "backward", "backward", "update"):
        exchange.clock.lap(lap)
    numbers = [torch.tensor(value) for value in (2.5, 3.0, 0.5)]
    ((record, tensors),) = exchange.summed([({"step": 1, "told": exchange.told()}, numbers)])
    assert [tensor.item() for tensor in tensors] == [5.0, 6.0, 0.5]  # the norm is the same on all ranks
    assert (exchange.stopping, exchange.saving) == (False, True)
    return record


LAPS = {"forward_seconds": 0.25, "backward_seconds": 0.5, "update_seconds": 0.25, "step_seconds": 1.25}


def test_every_count_of_a_sparse_hook_is_told_under_its_name():
    """Bytes and entries are of all ranks, what is in a row and seconds of this one; what was before is left out."""
    counted = {"sent_bytes": 40, "sent_entries": 5}
    counted |= {"compress_seconds": 1.0, "wire_seconds": 2.0, "decompress_seconds": 4.0}
    between = SimpleNamespace(messages=16, bytes_in_row=16)
    counting = SimpleNamespace(exchange=SimpleNamespace(**dict.fromkeys(counted, 16), between=between))
    exchange = exchange_with(counting)
    for name, value in counted.items():
        setattr(counting.exchange, name, 16 + value)
    between.messages, between.bytes_in_row = 19, 23
    assert record_of(exchange) == LAPS | {
        "step": 1, "wire_bytes": 80, "entries_sent": 2 * 5 / 2 / 1000, "messages": 3, "bytes_in_row": 7,
        "compress_seconds": 1.0, "communicate_seconds": 2.0, "decompress_seconds": 4.0,
    }  # fmt: skip
    assert record_of(exchange)["wire_bytes"] == 0


def test_entries_are_those_of_the_ranks_that_compress():
    counted = ("sent_bytes", "sent_entries", "compress_seconds", "wire_seconds", "decompress_seconds")
    between = SimpleNamespace(messages=0, bytes_in_row=0)
    counting = SimpleNamespace(exchange=SimpleNamespace(**dict.fromkeys(counted, 0), between=between))
    exchange = exchange_with(counting, ranks=4, ranks_per_node=2)
    counting.exchange.sent_entries = 30
    assert record_of(exchange)["entries_sent"] == 2 * 30 / 2 / 1000


def test_a_hook_of_pytorch_has_counts_and_no_seconds():
    counting = object.__new__(TorchHook)
    counting.sent_bytes, counting.sent_entries, counting.messages = 0, 0, 0
    exchange = exchange_with(counting, method="bf16")
    counting.sent_bytes, counting.sent_entries, counting.messages = 40, 5, 3
    assert record_of(exchange) == LAPS | {
        "step": 1, "wire_bytes": 80, "entries_sent": 0.005, "messages": 3, "bytes_in_row": 40,
        "compress_seconds": 0.0, "communicate_seconds": 0.0, "decompress_seconds": 0.0,
    }  # fmt: skip
