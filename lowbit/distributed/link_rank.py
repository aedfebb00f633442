"""One rank of `netbench`: does the exchanges named on its command line, and prints a line of JSON for each."""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from lowbit import catalog
from lowbit.compressors import make
from lowbit.data.digits import Digits
from lowbit.distributed.ddp_hook import register_sparse_hook
from lowbit.distributed.exchange import Exchange
from lowbit.distributed.layout import Group, Layout, Part
from lowbit.distributed.netbench import Case, Training
from lowbit.distributed.torch_hooks import TORCH_HOOKS, register_torch_hook
from lowbit.processes import die_with
from lowbit.schemes import Wire


def counted_bytes() -> int:
    """What the interface of this namespace has sent."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == os.environ["GLOO_SOCKET_IFNAME"]:
            return int(numbers.split()[8])
    raise RuntimeError(
        f"/proc/net/dev has no interface {os.environ['GLOO_SOCKET_IFNAME']}; is this a network namespace?"
    )


def exchanged(case: Case) -> dict[str, Any]:
    """Seconds of each round, and compression, payload and counted bytes of all."""
    dtype = getattr(torch, case.dense_dtype)
    wire = Wire(dist.group.WORLD)
    exchange = Exchange(make(case.compressor), catalog.build("schemes", {"name": case.scheme}), wire, dtype=dtype)
    layout = Layout((Group((Part("gradient", 0, case.numel),)),))
    gradients = torch.randn(3, case.numel, generator=torch.Generator().manual_seed(wire.rank))
    for gradient in gradients[:2]:  # the history of the compressor, and connections
        exchange.mean(gradient.clone(), layout, case.density)
    dist.barrier()
    before, payload, compressing = counted_bytes(), exchange.sent_bytes, exchange.compress_seconds
    seconds = []
    for number in range(case.rounds):
        gradient = gradients[number % 3].clone()
        begun = time.perf_counter()
        exchange.mean(gradient, layout, case.density)
        seconds.append(time.perf_counter() - begun)
    dist.barrier()  # only now has everything left the interface
    return {
        "seconds": seconds,
        "compress_seconds": exchange.compress_seconds - compressing,
        "wire_bytes": exchange.sent_bytes - payload,
        "counted_bytes": counted_bytes() - before,
    }


def trained(training: Training) -> dict[str, Any]:
    """Seconds of each step, payload and counted bytes of all, and the curve of the validation loss."""
    rank, world = dist.get_rank(), dist.get_world_size()
    splits = {
        name: (torch.from_numpy(arrays["images"]).flatten(1) / 255, torch.from_numpy(arrays["labels"]))
        for name, arrays in Digits().arrays(None, Path()).arrays.items()
    }
    torch.manual_seed(0)
    width = training.width
    layers = (nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    model = DistributedDataParallel(nn.Sequential(*layers), bucket_cap_mb=1)
    if training.hook in TORCH_HOOKS:
        settings = {"start_powerSGD_iter": 2} if training.hook == "powersgd" else {}
        hook: Any = register_torch_hook(model, training.hook, **settings)
    else:
        hook = register_sparse_hook(model, training.hook, training.density)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    images, labels = splits["train"]
    draws = torch.Generator().manual_seed(1)
    seconds, curve, payload, before = [], [], 0, counted_bytes()
    for step in range(training.steps):
        if step % training.every == 0:
            dist.barrier()
        batch = torch.randint(len(labels), (32 * world,), generator=draws)[rank::world]
        begun = time.perf_counter()
        optimizer.zero_grad()
        cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
        payload += hook.wire_bytes
        if (step + 1) % training.every == 0 or step + 1 == training.steps:
            with torch.no_grad():
                held_out, targets = splits["validation"]
                curve.append((sum(seconds), float(cross_entropy(model.module(held_out), targets))))
    dist.barrier()
    counted = counted_bytes() - before
    return {"seconds": seconds, "wire_bytes": payload, "counted_bytes": counted, "curve": curve}


def main() -> None:
    """Join the others, and do all jobs."""
    die_with(int(os.environ["LOWBIT_PARENT"]))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=120))
    for settings in json.loads(sys.argv[1]):
        kind = settings.pop("kind")
        told = exchanged(Case(**settings)) if kind == "Case" else trained(Training(**settings))
        print(json.dumps(told), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
