"""One rank of `netbench`: does the jobs that it reads, a line of JSON each, and prints one for each, or its fault."""

import itertools
import json
import os
import sys
import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from lowbit import catalog
from lowbit.compressors import make
from lowbit.data.digits import Digits
from lowbit.distributed import tracing
from lowbit.distributed.ddp_hook import SparseHook, register_sparse_hook
from lowbit.distributed.exchange import Exchange
from lowbit.distributed.layout import Group, Layout, Part
from lowbit.distributed.measurements import PHASES, Case, Training
from lowbit.distributed.nodes import close, wires
from lowbit.distributed.torch_hooks import TORCH_HOOKS, TorchHook, register_torch_hook
from lowbit.errors import UserError
from lowbit.processes import die_with
from lowbit.schemes import Wire

TRACED_STEPS = 3


@dataclass
class Job:
    """What a rank does.

    Args:
        group: of all ranks, for this job.
        timeout: longest wait for others.
        at: where it is, for messages.
    """

    group: dist.ProcessGroup
    timeout: timedelta
    at: str = "at its begin"

    def meet(self) -> None:
        """Wait for all ranks."""
        dist.barrier(group=self.group)


def counted_bytes() -> int:
    """What the interface of this namespace has sent."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == os.environ["GLOO_SOCKET_IFNAME"]:
            return int(numbers.split()[8])
    raise RuntimeError(
        f"/proc/net/dev has no interface {os.environ['GLOO_SOCKET_IFNAME']}; is this a network namespace?"
    )


def exchanged(case: Case, job: Job) -> dict[str, Any]:
    """Seconds of each round, of compression in it and of sums; payload, messages and counted bytes of all."""
    dtype = getattr(torch, case.dense_dtype)
    everyone, between, inside = wires(Wire(job.group), case.ranks_per_node, job.timeout)
    scheme = catalog.build("schemes", {"name": case.scheme})
    exchange = Exchange(make(case.compressor), scheme, between, inside, dtype)
    layout = Layout((Group((Part("gradient", 0, case.numel),)),))
    gradients = torch.randn(3, case.numel, generator=torch.Generator().manual_seed(everyone.rank))
    for gradient in gradients:  # connections; kernels of a first choice, of one from a guess, and of one after it
        exchange.mean(gradient.clone(), layout, case.density)
    job.meet()
    before, payload = counted_bytes(), exchange.sent_bytes
    messages, in_row = exchange.sent_messages, exchange.messages
    rounds: dict[str, list[float]] = {"seconds": [], "compress": [], "decompress": []}
    for number in range(case.rounds):
        job.at = f"round {number + 1}"
        gradient = gradients[number % 3].clone()
        job.meet()
        clocks = (exchange.compress_seconds, exchange.decompress_seconds)
        begun = time.perf_counter()
        exchange.mean(gradient, layout, case.density)
        rounds["seconds"].append(time.perf_counter() - begun)
        rounds["compress"].append(exchange.compress_seconds - clocks[0])
        rounds["decompress"].append(exchange.decompress_seconds - clocks[1])
    job.meet()  # only now has everything left the interface
    told = rounds | {
        "wire_bytes": exchange.sent_bytes - payload,
        "messages": exchange.sent_messages - messages,
        "messages_in_row": exchange.messages - in_row,
        "counted_bytes": counted_bytes() - before,
    }
    close(everyone, between, inside)
    return told


def trained(training: Training, job: Job) -> dict[str, Any]:
    """Seconds of each step and of its phases, payload, messages and counted bytes of all, and the curve of the loss."""
    rank, world = dist.get_rank(), dist.get_world_size()
    splits = {
        name: (torch.from_numpy(arrays["images"]).flatten(1) / 255, torch.from_numpy(arrays["labels"]))
        for name, arrays in Digits().arrays(None, Path()).arrays.items()
    }
    torch.manual_seed(training.seed)
    width = training.width
    layers = (nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    model = DistributedDataParallel(nn.Sequential(*layers), bucket_cap_mb=1, process_group=job.group)
    hook = _hook(model, training, job.timeout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    draws = torch.Generator().manual_seed(training.seed + 1)
    spent: dict[str, list[float]] = {name: [] for name in ("seconds", *PHASES)}

    def step() -> None:
        images, labels = splits["train"]
        batch = torch.randint(len(labels), (32 * world,), generator=draws)[rank::world]
        exchanged, times = _clocks(hook), [time.perf_counter()]
        with record_function("forward"):
            optimizer.zero_grad()
            loss = cross_entropy(model(images[batch]), labels[batch])
        times.append(time.perf_counter())
        with record_function("backward"):
            loss.backward()
        times.append(time.perf_counter())
        with record_function("update"):
            optimizer.step()
        times.append(time.perf_counter())
        phases = [after - before for before, after in zip(exchanged, _clocks(hook), strict=True)]
        forward, backward, update = (after - before for before, after in itertools.pairwise(times))
        for name, seconds in zip(spent, (times[-1] - times[0], forward, backward, *phases, update), strict=True):
            spent[name].append(seconds)

    curve, before = [], counted_bytes()
    for number in range(1, training.steps + 1):
        job.at = f"step {number}"
        if number % training.every == 1:
            job.meet()
        step()
        if number % training.every == 0 or number == training.steps:
            with torch.no_grad():
                held_out, targets = splits["validation"]
                curve.append((sum(spent["seconds"]), float(cross_entropy(model.module(held_out), targets))))
    job.meet()
    told: dict[str, Any] = {name: list(seconds) for name, seconds in spent.items()} | {"curve": curve}
    spoken = _exchange(hook)
    told |= {"wire_bytes": spoken.sent_bytes, "messages": spoken.sent_messages, "messages_in_row": spoken.messages}
    told["counted_bytes"] = counted_bytes() - before
    if training.trace:
        with tracing.recorded(Path(training.trace)) if rank == 0 else nullcontext():
            for _ in range(TRACED_STEPS):
                step()
    job.at = "after the last step"
    job.meet()  # all have sent what others wait for
    if isinstance(hook, SparseHook):
        hook.close()
        close(hook.everyone, hook.exchange.between, hook.exchange.inside)
    return told


def _hook(model: DistributedDataParallel, training: Training, timeout: timedelta) -> SparseHook | TorchHook:
    if training.hook in TORCH_HOOKS:
        settings = {"start_powerSGD_iter": 2} if training.hook == "powersgd" else {}
        return register_torch_hook(model, training.hook, **settings)
    session = make(training.hook)
    for _ in range(3):  # kernels are compiled or loaded before clocks run
        session.send(torch.randn(4096), "other", training.density)
    settings = {"pipeline": training.pipeline, "timeout_seconds": timeout.total_seconds()}
    return register_sparse_hook(model, training.hook, training.density, **settings)


def _exchange(hook: SparseHook | TorchHook) -> Exchange | TorchHook:
    """What counts bytes and messages."""
    return hook.exchange if isinstance(hook, SparseHook) else hook


def _clocks(hook: SparseHook | TorchHook) -> tuple[float, float, float]:
    """Seconds so far of compression, of collectives and of sums; PyTorch's hooks tell none."""
    if isinstance(hook, TorchHook):
        return 0.0, 0.0, 0.0
    exchange = hook.exchange
    return exchange.compress_seconds, exchange.wire_seconds, exchange.decompress_seconds


def _done(asked: dict[str, Any], job: Job) -> dict[str, Any]:
    return exchanged(Case(**asked), job) if asked.pop("kind") == "Case" else trained(Training(**asked), job)


def main() -> None:
    """Join the others, and do jobs until there are no more, or one fails: then say where."""
    die_with(int(os.environ["LOWBIT_PARENT"]))
    torch.set_num_threads(1)
    job = None
    try:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        timeout = timedelta(seconds=float(os.environ["LOWBIT_TIMEOUT"]))
        store = dist.FileStore(os.environ["LOWBIT_STORE"], world)
        store.set_timeout(timeout)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timeout)
        for line in sys.stdin:
            asked = json.loads(line)
            timeout = timedelta(seconds=asked.pop("timeout_seconds"))
            store.set_timeout(timeout)
            before, job = job, Job(dist.new_group(timeout=timeout), timeout)  # where all ranks meet:
            close(Wire(before.group if before else None))  # none still needs this
            print(json.dumps(_done(asked, job)), flush=True)
    except Exception as error:
        trace = "" if isinstance(error, UserError) else traceback.format_exc()
        at = job.at if job else "joining the others"
        print(json.dumps({"fault": str(error), "at": at, "trace": trace}), flush=True)
        os._exit(1)  # threads of a hook may hang
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
