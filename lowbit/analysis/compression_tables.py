"""Tables of the compressor study that are read as they stand: the matrix of compressors, published code against what it
describes, and the audit of claims."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lowbit.analysis.verdicts import Verdict
from lowbit.atomic import write_text

_REFERENCE = "_reference"


def matrix_table(
    spec: dict[str, Any], costs: pd.DataFrame, slopes: pd.DataFrame, comparisons: pd.DataFrame
) -> pd.DataFrame:
    """T1: what each compressor sends, keeps and costs, one row per arm that is timed everywhere."""
    rows = []
    for arm in (name for name in spec["order"] if spec["arms"][name]["grids"] is None):
        own = comparisons[(comparisons["arm"] == arm) & (comparisons["variant"] == "")]
        passes, memory = (costs[(costs["arm"] == arm) & (costs["cost"] == cost)] for cost in ("passes", "memory"))
        of_processor = (slopes["device"] == "cpu") & (slopes["variant"] == "")
        slope = slopes.loc[(slopes["arm"] == arm) & of_processor, "slope"]
        largest = memory[memory["n"] == memory["n"].max()]
        rows.append(
            {
                "arm": arm,
                "compressor": spec["arms"][arm]["compressor"]["name"],
                "feedback": spec["arms"][arm]["feedback"]["name"],
                "promises k": "yes" if passes["exact"].any() else "no",
                "nnz/k lowest": own["nnz_low"].min(),
                "nnz/k median": own["nnz_over_k"].median(),
                "nnz/k highest": own["nnz_high"].max(),
                "recall": own["recall"].mean(),
                "passes over N": _one(passes["passes"]),
                "bytes of operands per entry": _one(passes["bytes_per_entry"]),
                "host waits": _one(passes["host_waits"]),
                "extra bytes per entry": _one(largest["extra_bytes"] / largest["n"]),
                "kept bytes per entry": _one(largest["kept_bytes"] / largest["n"]),
                "CPU time grows as N to the": slope.mean(),
            }
        )
    return pd.DataFrame(rows)


def _one(values: pd.Series) -> float:
    return float(values.iloc[0]) if len(values) else float("nan")


def modes_table(comparisons: pd.DataFrame) -> pd.DataFrame:
    """T3: code as published (reference) against what it describes (fixed), by input and density."""
    rows = []
    methods = [arm.removesuffix(_REFERENCE) for arm in comparisons["arm"].unique() if arm.endswith(_REFERENCE)]
    for method in methods:
        for (kind, density), of_case in comparisons.groupby(["input", "density"], sort=False):
            for mode, arm in (("reference", method + _REFERENCE), ("fixed", method)):
                own = of_case[of_case["arm"] == arm]
                if own.empty:
                    continue
                rows.append(
                    {
                        "method": method,
                        "input": kind,
                        "density": density,
                        "mode": mode,
                        "nnz/k lowest": own["nnz_low"].min(),
                        "nnz/k median": own["nnz_over_k"].median(),
                        "nnz/k highest": own["nnz_high"].max(),
                        "threshold error, median": own["threshold_error"].median(),
                        "within 2k/3 to 4k/3 (%)": own["percent_two_thirds_to_four_thirds"].mean(),
                        "within k to 2k (%)": own["percent_k_to_two_k"].mean(),
                        "seeds": own["seed"].nunique(),
                        "steps": int(own["steps"].max()),
                    }
                )
    return pd.DataFrame(rows)


def audit_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """T2: every claim, what was measured on what device, and the verdict."""
    return pd.DataFrame(
        {
            "claim": v.claim,
            "source": v.source,
            "on": v.task,
            "verdict": v.verdict,
            "estimate": v.estimate,
            "low": v.interval[0] if v.interval else None,
            "high": v.interval[1] if v.interval else None,
            "unit": v.unit,
            "claimed": v.bound,
            "n": v.n,
            "measure": v.measure,
            "device": v.device,
            "note": v.note,
        }
        for v in verdicts
    )


_STYLE = (
    "body{font:13px sans-serif;margin:1em}table{border-collapse:collapse}"
    "td,th{padding:.25em .6em;border-bottom:1px solid #ccc;text-align:left;vertical-align:top}th{background:#eee}"
)


def write_page(path: Path, title: str, table: pd.DataFrame) -> None:
    """A table as a page of the report."""
    body = table.to_html(index=False, float_format=lambda value: f"{value:.4g}", na_rep="", border=0)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    write_text(path, f"<!DOCTYPE html><html><head>{head}</head><body><h1>{title}</h1>{body}</body></html>\n")
