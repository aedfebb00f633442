"""A trace of some training steps for `chrome://tracing` or Perfetto, and how much of an exchange backward has hidden.

Open ranges are named `forward`, `backward`, `update` in the thread that trains, and `compress`, `decompress` with
`send` inside in the thread of the exchange.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from lowbit.atomic import replacing

RANGES = ("forward", "backward", "compress", "send", "decompress", "update")
Interval = tuple[float, float]


@contextmanager
def recorded(path: Path) -> Iterator[None]:
    """Record what all threads of this process do, and write it as a Chrome trace."""
    everywhere = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[ProfilerActivity.CPU], experimental_config=everywhere) as profiler:
        yield
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        profiler.export_chrome_trace(str(temporary))


def intervals(path: Path) -> dict[str, list[Interval]]:
    """Beginnings and ends of the named ranges of a trace, in seconds, in order; and those of `gradients`.

    `gradients` are the operations of PyTorch inside backward, in its thread: what backward computes, rather than
    waits for.
    """
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    found: dict[str, list[Interval]] = {
        name: sorted(_times(e) for e in events if e.get("cat") == "user_annotation" and e["name"] == name)
        for name in RANGES
    }
    threads = {e["tid"] for e in events if e.get("cat") == "user_annotation" and e["name"] == "backward"}
    computed = sorted(
        _times(e) for e in events if e.get("cat") == "cpu_op" and e["tid"] in threads and e["name"].startswith("aten::")
    )
    inside = [i for i in computed if any(begin <= i[0] and i[1] <= end for begin, end in found["backward"])]
    ended = itertools.accumulate((end for _, end in inside), max, initial=0.0)
    found["gradients"] = [i for i, before in zip(inside, ended, strict=False) if i[0] >= before]  # not within another
    return found


def hidden(path: Path) -> tuple[float, float]:
    """Seconds of compression and exchange in a trace that ran while gradients were computed, and of all of it."""
    found = intervals(path)
    work = [w for name in ("compress", "decompress") for w in found[name]]
    inside = sum(max(0.0, min(e, end) - max(b, begin)) for b, e in work for begin, end in found["gradients"])
    return inside, sum(e - b for b, e in work)


def _times(event: dict[str, Any]) -> Interval:
    return event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6
