"""A trace of some training steps for `chrome://tracing` or Perfetto, and how much of an exchange backward has hidden.

Open ranges are named `forward`, `backward`, `update` in the thread that trains, and `compress`, `decompress` with
`send` inside in the thread of the exchange.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """Beginnings and ends of the named ranges of a trace, in seconds."""
    found: dict[str, list[Interval]] = {name: [] for name in RANGES}
    for event in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]:
        if event.get("cat") == "user_annotation" and event["name"] in found:
            found[event["name"]].append((event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6))
    return found


def hidden(found: dict[str, list[Interval]]) -> tuple[float, float]:
    """Seconds of compression and exchange that ran while backward did, and of all of it.

    In the pipeline's trace backward ends when the last bucket has come: what follows the last gradient is in it too.
    """
    work = [w for name in ("compress", "decompress") for w in found[name]]
    inside = sum(max(0.0, min(e, end) - max(b, begin)) for b, e in work for begin, end in found["backward"])
    return inside, sum(e - b for b, e in work)
