"""The network study as tables: what was measured, what the cost model says of it, and what it says of other machines.

Latency of a message, beside that which links were given, and time of a byte on the host are fitted to exchanges on the
fitted links at the fitted sizes, all methods together; everything else is held out. Computing (compression and sums) is
what was measured of the same method and size on the other fitted links, never in the measurement that is predicted.
What a training step takes beside its exchange is measured with every hook on the fastest fitted link, where the network
matters least; steps on all other links are held out.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from lowbit import cost
from lowbit.cost_assumptions import Assumptions
from lowbit.errors import UserError

STUDY = "network"
_START = (2e-4, 2e-9)  # seconds of a message, seconds of a byte: where the search begins
_MEASURED = "compress_seconds_per_entry, density "  # rows of assumptions that a benchmark gives


@dataclass(frozen=True)
class Model:
    """What was fitted.

    Args:
        latency_seconds: of a message, processors included, without the latency that links were given.
        host_seconds_per_byte: of processors for a byte.
        compute: exchanges on the fitted links: link, method, entries and compute_seconds.
    """

    latency_seconds: float
    host_seconds_per_byte: float
    compute: pd.DataFrame

    def link(self, row: dict[str, Any]) -> cost.Link:
        """The link of a measurement."""
        rate = math.inf if row["rate_bits"] is None or math.isnan(row["rate_bits"]) else row["rate_bits"]
        latency = self.latency_seconds + row["latency_seconds"]
        return cost.Link(rate, latency, self.host_seconds_per_byte, int(row["payload_of_packet"]))

    def compute_seconds(self, link: str, method: str, entries: float) -> float:
        """Of compression and sums, by the nearest size on the other fitted links; on this one where it is the only."""
        own = self.compute[self.compute["method"] == method]
        others = own[own["link"] != link]
        known = others if len(others) else own
        nearest = min(known["entries"].unique(), key=lambda size: abs(size - entries))
        return float(known.loc[known["entries"] == nearest, "compute_seconds"].mean() * entries / nearest)

    def exchange_seconds(self, row: dict[str, Any]) -> float:
        """Of one exchange."""
        computing = self.compute_seconds(row["link"], row["method"], row["entries"])
        return cost.exchange_seconds(_volume(row), self.link(row), computing)


def read_run(results: Path) -> tuple[dict[str, Any], dict[str, Any], pd.DataFrame]:
    """Spec, summary and records of the study's run.

    Raises:
        UserError: when a file is missing or damaged.
    """
    folder = results / STUDY / "links"
    try:
        spec, summary = (json.loads((folder / n).read_text(encoding="utf-8")) for n in ("spec.json", "summary.json"))
        lines = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        again = f"python -m lowbit links --spec {folder / 'spec.json'} --folder {folder}"
        raise UserError(f"{folder}: not a finished run ({error}); make it again: {again}") from None
    return spec, summary, pd.DataFrame(lines).rename(columns={"type": "kind"})


def fit(records: pd.DataFrame) -> Model:
    """The model of the fitted links and sizes."""
    seen = records[(records["kind"] == "exchange") & ~records["held_out_link"].astype(bool)]
    compute = seen[["link", "method", "entries", "compute_seconds"]]
    rows = seen[~seen["held_out_size"].astype(bool)].to_dict("records")

    def misses(logarithms: np.ndarray) -> list[float]:
        model = Model(*np.exp(logarithms), compute)
        return [math.log(model.exchange_seconds(row) / row["seconds"]) for row in rows]

    found = least_squares(misses, np.log(_START), loss="soft_l1", f_scale=0.1)
    latency, host = (float(value) for value in np.exp(found.x))
    return Model(latency, host, compute)


def _volume(row: dict[str, Any]) -> cost.Volume:
    dense = row["scheme"] == "dense"
    density = 1.0 if dense else row["density"]
    return cost.volume(row["scheme"], row["ranks"], row["entries"], density, int(row["value_bytes"]))


def measurements_table(records: pd.DataFrame, model: Model, hardware: str, device: str) -> pd.DataFrame:
    """One row per measurement: seconds, those predicted, what of them was computing, and bytes."""
    rows = []
    for order, row in enumerate(records.to_dict("records")):
        predicted = model.exchange_seconds(row) if row["kind"] == "exchange" else _step_seconds(row, records, model)
        row["held_out_size"] = row["kind"] == "exchange" and bool(row["held_out_size"])
        held_out = bool(row["held_out_link"]) or row["held_out_size"]
        held_out |= row["kind"] == "training" and row["link"] != _fastest(records)
        rows.append(
            {
                "study": STUDY,
                "task": row["link"],
                "arm": row["method"],
                "arm_order": order,
                "seed": 0,
                "role": "baseline" if row["method"] in ("dense float32", "allreduce") else "arm",
                "device": device,
                "hardware": hardware,
                **{key: value for key, value in row.items() if key not in ("link", "method")},
                "held_out": held_out and row["method"] != "noop",  # steps without exchange are given to the model
                "predicted_seconds": predicted,
                "apart_percent": 100 * (predicted / row["seconds"] - 1),
            }
        )
    return pd.DataFrame(rows)


_EXCHANGED = {"allreduce": "dense float32", "bf16": "dense bfloat16"}
_SPARSE = "hggtopk {:g} allgather"


def _step_seconds(row: dict[str, Any], records: pd.DataFrame, model: Model) -> float:
    """Of a training step: its exchange is hidden behind nothing."""
    return _beside_exchange(row["method"], records, model) + _exchange_of_step(row, records, model)


def _beside_exchange(method: str, records: pd.DataFrame, model: Model) -> float:
    """Of a training step, as measured on the fastest fitted link: it depends on the hook, not on the link.

    Ranks share the processors with each other and with the thread of the exchange, and wait for each other.
    """
    own = (records["kind"] == "training") & (records["method"] == method) & (records["link"] == _fastest(records))
    known = records[own].iloc[0].to_dict()
    return float(known["seconds"] - _exchange_of_step(known, records, model))


def _fastest(records: pd.DataFrame) -> str:
    fitted = records[~records["held_out_link"].astype(bool)]
    return str(fitted.loc[fitted["rate_bits"].astype(float).fillna(math.inf).idxmax(), "link"])


def _exchange_of_step(row: dict[str, Any], records: pd.DataFrame, model: Model) -> float:
    """Of the exchange of a training step, computing included."""
    if row["method"] == "noop":
        return 0.0
    runs = records[records["kind"] == "training"]
    entries = runs.loc[runs["method"] == "allreduce", "payload_bytes"].iloc[0] / row["ranks"]
    entries /= cost.volume("dense", row["ranks"], 1).sent
    bytes_of_rank = row["payload_bytes"] / row["ranks"]
    method = _EXCHANGED.get(row["method"], _SPARSE.format(row["density"]))
    computing = model.compute_seconds(row["link"], method, entries)
    exchanged = cost.Volume(bytes_of_rank, bytes_of_rank, row["messages_in_row"])
    return cost.exchange_seconds(exchanged, model.link(row), computing)


def fits_table(records: pd.DataFrame, model: Model) -> pd.DataFrame:
    """What was fitted, a row per number."""
    rows = [
        ("latency of a message", model.latency_seconds, "s"),
        ("host, for a byte", model.host_seconds_per_byte, "s"),
    ]
    for (method, entries), own in model.compute.groupby(["method", "entries"], sort=False):
        rows.append((f"{method}, {entries:.0f} entries: computing", own["compute_seconds"].mean(), "s"))
    for method in records.loc[records["kind"] == "training", "method"].unique():
        rows.append((f"{method}: a step beside its exchange", _beside_exchange(method, records, model), "s"))
    return pd.DataFrame(rows, columns=["setting", "value", "unit"])


def assumed(extrapolation: dict[str, Any]) -> dict[float, Assumptions]:
    """Density -> what the extrapolation rests on, with the compressor's time from a benchmark if there is one.

    Raises:
        UserError: when the benchmark has no time of that compressor.
    """
    given = Assumptions.model_validate(extrapolation["assumptions"])
    if extrapolation["benchmark"] is None:
        return dict.fromkeys(extrapolation["densities"], given)
    path, name = Path(extrapolation["benchmark"]), extrapolation["compressor"]
    return {density: given.measured_by(path, name, density) for density in extrapolation["densities"]}


def extrapolated_table(extrapolation: dict[str, Any]) -> pd.DataFrame:
    """Seconds of a step of every gradient, number of workers, rate, scheme and density, and of the dense exchange."""
    rows = []
    for density, assumptions in assumed(extrapolation).items():
        for gradient, entries in extrapolation["gradients"].items():
            for workers in extrapolation["workers"]:
                for gbit in extrapolation["gbit_per_second"]:
                    dense = assumptions.step_seconds("dense", workers, entries, 1.0, 1e9 * gbit)
                    for scheme in (s for s in cost.SCHEMES if s != "dense"):
                        limit = assumptions.crossover(scheme, workers, entries, 1e9 * gbit)
                        step = assumptions.step_seconds(scheme, workers, entries, density, 1e9 * gbit)
                        rows.append((gradient, entries, workers, gbit, scheme, density, step, dense, limit))
    columns = ["gradient", "entries", "workers", "gbit", "scheme", "density", "seconds", "dense_seconds", "crossover"]
    table = pd.DataFrame(rows, columns=columns).assign(times_faster=lambda t: t["dense_seconds"] / t["seconds"])
    return table.sort_values("entries", kind="stable", ignore_index=True)


def assumptions_table(extrapolation: dict[str, Any]) -> pd.DataFrame:
    """What the extrapolation rests on, in words, and whence: `assumed`, or the file and compressor."""
    fields, path = Assumptions.model_fields, extrapolation["benchmark"]
    replaced = {"compress_bytes", "compress_seconds_per_entry"} if path is not None else set()
    rows = [
        (name, value, fields[name].description, "assumed")
        for name, value in extrapolation["assumptions"].items()
        if name not in replaced
    ]
    if path is not None:
        text, source = "Measured: seconds to compress an entry.", f"{path}: {extrapolation['compressor']}"
        rows += [
            (f"{_MEASURED}{density:g}", a.compress_seconds_per_entry, text, source)
            for density, a in assumed(extrapolation).items()
        ]
    return pd.DataFrame(rows, columns=["setting", "value", "measure", "source"])


def compression(assumptions: pd.DataFrame) -> str:
    """Whether anything is measured, in words: what compressing an entry takes, and whence that is known."""
    settings = assumptions.set_index("setting")
    values = settings["value"].astype(float)
    measured = settings[settings.index.str.startswith(_MEASURED)]
    if not len(measured):
        each = values["compress_seconds_per_entry"] or values["compress_bytes"] / values["memory_bytes_per_second"]
        return f"Nothing here is measured: {1e12 * each:.3g} ps to compress an entry are assumed too."
    times = [f"{1e12 * values[name]:.3g} ps at {name.removeprefix(_MEASURED)}" for name in measured.index]
    return (
        f"Measured is what it takes to compress an entry, {', '.join(times)}, by {measured['source'].iloc[0]}; nothing "
        "else is."
    )


def crossovers_table(extrapolation: dict[str, Any]) -> pd.DataFrame:
    """Density below which every scheme sends fewer bytes in a row than a dense all-reduce of the smallest gradient."""
    entries = min(extrapolation["gradients"].values())
    rows = [
        (scheme, workers, cost.crossover(scheme, workers, entries))
        for scheme in cost.SCHEMES
        if scheme != "dense"
        for workers in extrapolation["workers"]
    ]
    return pd.DataFrame(rows, columns=["scheme", "workers", "crossover"])
