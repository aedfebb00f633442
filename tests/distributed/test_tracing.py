"""The trace of a step: named ranges, and an exchange that runs while gradients are computed only in the pipeline."""

import json
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from lowbit.distributed import register_sparse_hook, tracing
from lowbit.distributed.measurements import Training
from lowbit.distributed.netbench import Group


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    runs = [
        Training("hggtopk", 0.05, 3, pipeline=pipeline, trace=str(folder / f"{pipeline}.json"))
        for pipeline in (True, False)
    ]
    with ExitStack() as stack:
        assert len(list(Group(stack, 2, loopback=True).measure(runs, None))) == 2
    return {pipeline: folder / f"{pipeline}.json" for pipeline in (True, False)}


def test_every_step_has_its_ranges(traces):
    for path in traces.values():
        found = tracing.intervals(path)
        assert [len(found[name]) for name in ("forward", "backward", "update")] == [3, 3, 3]
        buckets = len(found["compress"])
        assert buckets >= 6
        assert len(found["decompress"]) == buckets
        assert len(found["send"]) >= buckets
        for begin, end in found["send"]:  # inside the exchange that waits for it
            assert any(b <= begin and end <= e for b, e in found["decompress"])


def test_exchanges_that_wait_overlap_with_nothing(traces):
    assert tracing.hidden(traces[False])[0] == 0


class Computed(torch.autograd.Function):
    """The identity, whose gradient is being computed until something has ended, but not for ever."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, begun: threading.Event, ended: threading.Event) -> Tensor:
        ctx.begun, ctx.ended = begun, ended
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        until, large = time.monotonic() + 20, torch.ones(1000, 1000)
        ctx.begun.set()
        while not ctx.ended.is_set() and time.monotonic() < until:
            large @ large  # long without Python's lock, as backward is: an exchange needs the lock
        return gradient, None, None


class TwoLayers(nn.Module):
    """Whose first layer's gradient is not there before the last layer's has been exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor, begun: threading.Event, ended: threading.Event) -> Tensor:
        """A number to minimise."""
        return self.last(Computed.apply(self.first(x), begun, ended)).square().sum()


def overlap(rank: int, world: int, path: str) -> tuple[float, float]:
    """Hidden and all seconds of exchange in a step; that of the last layer waits for the first layer's gradient."""
    model = DistributedDataParallel(TwoLayers(), bucket_cap_mb=1e-4)
    begun, ended = threading.Event(), threading.Event()
    hook = register_sparse_hook(model, "topk", 0.1)
    ended.set()
    model(torch.ones(2, 12), begun, ended).backward()  # once without, for the buckets to be formed anew
    begun.clear()
    ended.clear()
    mean = hook.exchange.mean

    def noted(*arguments: Any, **settings: Any) -> bool:
        begun.wait(20)
        time.sleep(0.1)  # who wakes may take the processor of who wakes it, before that computes
        applied = mean(*arguments, **settings)
        ended.set()
        return applied

    hook.exchange.mean = noted
    with tracing.recorded(Path(path)), record_function("backward"):
        model(torch.ones(2, 12), begun, ended).backward()
    return tracing.hidden(Path(path))


def test_exchanges_in_the_pipeline_overlap_with_gradients(tmp_path):
    inside, of_all = ranks.run(overlap, 1, str(tmp_path / "trace.json"))[0]
    assert 0 < inside < of_all


def test_overlap_is_that_of_the_intervals(tmp_path):
    def event(name, begin, seconds, thread, kind="user_annotation"):
        return {"name": name, "ts": 1e6 * begin, "dur": 1e6 * seconds, "tid": thread, "cat": kind}

    events = [
        event("backward", 10, 10, 1), event("compress", 11, 2, 2), event("decompress", 13, 6, 2),
        event("aten::mm", 10.5, 1, 1, "cpu_op"), event("aten::empty", 10.6, 0.1, 1, "cpu_op"),
        event("aten::mm", 18, 1.5, 1, "cpu_op"), event("aten::sort", 11, 8, 2, "cpu_op"),
        event("aten::mm", 5, 1, 1, "cpu_op"), {"name": "process_name"},
    ]  # fmt: skip
    (tmp_path / "trace.json").write_text(json.dumps({"traceEvents": events}))
    assert tracing.intervals(tmp_path / "trace.json")["gradients"] == [(10.5, 11.5), (18, 19.5)]
    assert tracing.hidden(tmp_path / "trace.json") == pytest.approx((0.5 + 1, 8))
