"""Training in several processes as columns and tables: what was sent, where a step's time goes, what a link would cost.

A run on loopback has no link. What it would take over one is computed: the step that was measured, and the time of its
bytes and messages on the link, nothing of it overlapped. `computed` says so wherever such a number stands.
"""

import hashlib
import itertools
import json
import math
from typing import Any

import pandas as pd

from lowbit import cost
from lowbit.analysis.runs import Run
from lowbit.analysis.statistics import paired

RATES = {
    **{"100 Mb/s": 1e8, "1 Gb/s": 1e9, "10 Gb/s": 1e10},
    **{"25 Gb/s": 2.5e10, "100 Gb/s": 1e11, "400 Gb/s": 4e11},
}
"""Links by name, in bits per second."""
LATENCY_SECONDS = 50e-6
"""Of a message on any of them: an assumption."""
COMPUTED = (
    "a step on loopback and, without overlap, the time of its bytes and messages on the link, "
    f"{1e6 * LATENCY_SECONDS:g} us a message"
)
LOOPBACK, NOTHING = "loopback", "noop"
_REACHED = "seconds_to_reference"
_JUDGED = {name: f"{_REACHED}_{word}" for name, word in zip(RATES, ("100mbit", "1gbit", "10gbit"), strict=False)}
SECONDS_TO_REFERENCE = (_REACHED, *_JUDGED.values())
"""Columns of the runs table: seconds of training until the reference accuracy, here and over the links of claims."""
_UNTOLD = {
    "allreduce": ("communicate",),
    **dict.fromkeys(("fp16", "bf16", "powersgd"), ("compress", "communicate", "decompress")),
}
"""Parts of a step that PyTorch's hooks do not tell; `allreduce` and `noop` compress nothing, `noop` sends nothing."""
_SETTINGS = ("method", "compressor", "feedback", "density", "scheme", "granularity", "pipeline")


def seconds_told(method: str, seconds: dict[str, float]) -> dict[str, float]:
    """Seconds of a step's parts as far as they are known; NaN for those that a hook of PyTorch does not tell.

    Example:
        >>> seconds_told("bf16", {"compress": 0.0, "step": 0.01})
        {'compress': nan, 'step': 0.01}
    """
    untold = _UNTOLD.get(method, ())
    return {part: math.nan if part in untold else float(value) for part, value in seconds.items()}


def overhead_share(method: str, seconds: dict[str, float]) -> float:
    """Compressing and decompressing as a share of the step; NaN where it is not told."""
    told = seconds_told(method, seconds)
    return (told["compress"] + told["decompress"]) / told["step"]


def columns(run: Run, steps_to_reference: float) -> dict[str, Any]:
    """What the runs table says of a run of several processes; nothing of a run of one.

    Args:
        run: the run.
        steps_to_reference: optimizer steps until the reference accuracy.
    """
    settings, found = run.spec.get("exchange"), run.summary.get("exchange")
    if not settings or not found:
        return {}
    seconds = seconds_told(settings["method"], {part: found["seconds"][part] for part in cost.PARTS})
    per_step = {key: found[key] / found["steps"] for key in ("wire_bytes", "dense_wire_bytes", "bytes_in_row")}
    row = {
        "ranks": settings["ranks"],
        **{key: settings[key] for key in _SETTINGS},
        "further_settings": _digest({k: v for k, v in settings.items() if k not in ("density", "pipeline")}),
        "pipeline": int(settings["pipeline"]),
        "entries_per_rank": found["parameters"],
        "sent_percent": 100 * found["entries_sent"],
        **per_step,
        "wire_percent": 100 * per_step["wire_bytes"] / per_step["dense_wire_bytes"],
        "messages": found["messages"],
        **{f"{part}_seconds": value for part, value in seconds.items()},
        "overhead_percent": 100 * overhead_share(settings["method"], seconds),
    }
    row |= {key: settings[key]["name"] for key in ("compressor", "feedback", "scheme")}
    row |= {"ranks_per_node": settings["ranks_per_node"], "warmup_stages": len(settings["warmup"])}
    if settings["method"] != "sparse":
        row |= {**dict.fromkeys(("compressor", "feedback", "scheme", "granularity"), ""), "density": math.nan}
    if settings["method"] == NOTHING:
        steps_to_reference = math.nan
    row[_REACHED] = steps_to_reference * seconds["step"]
    return row | {column: steps_to_reference * step_seconds(row, RATES[link]) for link, column in _JUDGED.items()}


def step_seconds(row: dict[str, Any], bits_per_second: float) -> float:
    """Seconds of a step over a link, computed of the bytes and messages that follow one another.

    Example:
        >>> row = {"step_seconds": 0.01, "messages": 2, "bytes_in_row": 1e6}
        >>> round(step_seconds(row, 1e8), 4)  # 10 ms here, 0.1 ms of latency, 85 ms for a million bytes in packets
        0.0956
    """
    in_row, link = row["bytes_in_row"], cost.Link(rate_bits=bits_per_second, latency_seconds=LATENCY_SECONDS)
    return row["step_seconds"] + cost.exchange_seconds(cost.Volume(in_row, in_row, row["messages"]), link)


def with_partners(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The runs table with what takes two runs of one seed to say.

    `exposed_seconds`: the step minus that of the arm that exchanges nothing. `kept_percent`: of the baseline's test
    accuracy; of a text, the baseline's test perplexity in percent of the run's. `pipeline_saves_percent`: of the
    exposed time of the same arm without a pipeline.
    """
    if "method" not in runs:
        return runs
    place = ["task", "seed"]
    nothing = _column(runs[runs["method"] == NOTHING], [*place, "ranks"], "step_seconds", "nothing")
    quality = (100 / runs["test_perplexity"]).where(runs["metric"] == "perplexity", runs["test_accuracy_percent"])
    runs = runs.assign(quality=quality)
    dense = _column(runs[runs["arm"] == baseline], place, "quality", "dense")
    table = runs.merge(nothing, "left", [*place, "ranks"]).merge(dense, "left", place)
    exchanges = table["method"] != NOTHING
    table["exposed_seconds"] = (table["step_seconds"] - table.pop("nothing")).where(exchanges)
    table["kept_percent"] = (100 * table.pop("quality") / table.pop("dense")).where(exchanges)
    same = [*place, "density", "further_settings"]
    waiting = _column(table[table["pipeline"] == 0], same, "exposed_seconds", "waiting")
    table = table.merge(waiting, "left", same)
    saved = 100 * (1 - table["exposed_seconds"] / table.pop("waiting"))
    table["pipeline_saves_percent"] = saved.where((table["pipeline"] == 1) & (table["method"] == "sparse"))
    return table


def _column(rows: pd.DataFrame, place: list[str], column: str, name: str) -> pd.DataFrame:
    """One value for each place; none where several rows could give it."""
    return rows[[*place, column]].rename(columns={column: name}).drop_duplicates(place, keep=False)


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def links_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run and link, of runs that exchange anything: seconds of a step, and to the reference accuracy."""
    rows = []
    for row in runs.to_dict("records"):
        if row["method"] == NOTHING:
            continue
        place = {key: row[key] for key in ("task", "arm", "arm_order", "seed", "censored")}
        here = row["step_seconds"]
        times = {LOOPBACK: (math.nan, here)} | {name: (rate, step_seconds(row, rate)) for name, rate in RATES.items()}
        for link, (rate, step) in times.items():
            reached = {"step_seconds": step, _REACHED: row["steps_to_reference"] * step}
            rows.append({**place, "link": link, "bits_per_second": rate, "computed": int(link != LOOPBACK), **reached})
    return pd.DataFrame(rows)


def exposed_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and intervals over seeds of the exposed time of every arm, in seconds."""
    rows = []
    for (task, arm), group in runs[runs["method"] != NOTHING].groupby(["task", "arm"], sort=False):
        rows.append({"task": task, "arm": arm, **vars(paired(group["exposed_seconds"].dropna().to_numpy()))})
    return pd.DataFrame(rows)


WORKERS = (2, 4, 8, 16, 32, 64, 128, 256)


def volumes_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Bytes of every scheme at the densities of the study, in percent of dense, by number of processes: computed."""
    densities = sorted(runs.loc[(runs["method"] == "sparse") & (runs["compressor"] != "none"), "density"].unique())
    entries, rows = int(runs["entries_per_rank"].max()), []
    for scheme in (name for name in cost.SCHEMES if name != "dense"):
        for density, ranks in itertools.product(densities, WORKERS):
            sent, dense = cost.volume(scheme, ranks, entries, density), cost.volume("dense", ranks, entries)
            rows.append(
                {"scheme": scheme, "density": density, "ranks": ranks, "wire_percent": 100 * sent.sent / dense.sent}
            )
    return pd.DataFrame(rows, columns=["scheme", "density", "ranks", "wire_percent"])
