"""One rank of `netbench`: does the exchanges named on its command line, and prints a line of JSON for each."""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from lowbit import catalog
from lowbit.compressors import make
from lowbit.distributed.exchange import Exchange
from lowbit.distributed.layout import Group, Layout, Part
from lowbit.distributed.netbench import Case
from lowbit.processes import die_with
from lowbit.schemes import Wire


def counted_bytes() -> int:
    """What the interface of this namespace has sent."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == os.environ["GLOO_SOCKET_IFNAME"]:
            return int(numbers.split()[8])
    raise RuntimeError("no such interface in /proc/net/dev")


def exchanged(case: Case, rank: int) -> dict:
    """Seconds of each round, and compression, payload and counted bytes of all."""
    dtype = getattr(torch, case.dense_dtype)
    wire = Wire(dist.group.WORLD)
    exchange = Exchange(make(case.compressor), catalog.build("schemes", {"name": case.scheme}), wire, dtype=dtype)
    layout = Layout((Group((Part("gradient", 0, case.numel),)),))
    gradients = torch.randn(3, case.numel, generator=torch.Generator().manual_seed(rank))
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
    found = {
        "seconds": seconds,
        "compress_seconds": exchange.compress_seconds - compressing,
        "wire_bytes": exchange.sent_bytes - payload,
        "counted_bytes": counted_bytes() - before,
    }
    dist.barrier()
    return found


def main() -> None:
    """Join the others, and do all cases."""
    die_with(int(os.environ["LOWBIT_PARENT"]))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=120))
    for settings in json.loads(sys.argv[1]):
        print(json.dumps(exchanged(Case(**settings), dist.get_rank())), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
