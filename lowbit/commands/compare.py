"""Train one thing with several ways of exchanging gradients, one after another, and set them side by side.

  python -m lowbit compare --model resnet18 --dataset digits --methods baseline topk hggtopk --density 0.05
  python -m lowbit compare --model resnet18 --dataset digits --methods baseline topk --weight none --optimizer sgd
  python -m lowbit compare --model vit --dataset digits --methods baseline bf16 powersgd randomkec --ranks 2 --seeds 3

A method is `baseline` (dense all-reduce of float32), a compressor by any name that `train --compressor` knows, or one
of PyTorch's hooks. All other flags are those of `python -m lowbit train`, and hold for every method on which they have
an effect; weights are ternary and the optimizer is AdamW unless they say otherwise. What was trained before, from the
same data and by the same code, is not trained again; the same command goes on after an interruption. Intervals are of
the mean over seeds, 95%. `noop` has times, but no result: its processes exchange nothing, and train models of their
own. Methods train one after another, and what else the machine does then is in their times: to compare those, use the
exchange study, which times them side by side.
"""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lowbit.spec import RunSpec

_HOOKS = {"baseline": "allreduce"} | {name: name for name in ("allreduce", "fp16", "bf16", "powersgd", "noop")}
_COLUMNS = ("value", "step_seconds", "wire_bytes", "relative_bytes", "overhead_share")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Methods and paths, then a flag for every field of the spec."""
    from lowbit.commands._flags import add_spec_flags

    parser.usage = f"{parser.prog} --methods NAME ... [--dataset NAME] [--model NAME] [--density D] [--seeds N] ..."
    what = parser.add_argument_group("what")
    what.add_argument("--methods", nargs="+", required=True, metavar="NAME", help="baseline, compressors, hooks")
    what.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="repetitions of each: seeds 0 to N-1 (default: 1)"
    )
    what.add_argument("--dataset", metavar="NAME", default="digits", help="dataset, as of `train` (default: digits)")
    what.add_argument("--folder", type=Path, help="where runs are kept (default: results/by_hand/compare/<task>)")
    what.add_argument("--data-folder", type=Path, help="prepared dataset (default: results/data/<dataset>)")
    what.add_argument("--data-root", type=Path, help="your raw data, when the dataset is prepared on the way")
    what.add_argument(
        "--csv", type=Path, metavar="FILE", help="rows of all runs (default: comparison.csv in the folder)"
    )
    add_spec_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train what is missing, print the table, write the CSV."""
    from lowbit.atomic import write_text
    from lowbit.commands.train import folder_name, prepare_if_possible
    from lowbit.gpu_slots import claim

    specs = specs_of(args.methods, args.seeds, args.dataset, args.spec)
    first = specs[0][1]
    folder = args.folder or Path("results/by_hand/compare") / first.task
    data_folder = args.data_folder or Path("results/data") / args.dataset
    prepare_if_possible(args.dataset, data_folder, args.data_root)
    claim(max(spec.gpus for _, spec in specs), None)

    from lowbit.data._base import read_manifest
    from lowbit.train.identity import finished
    from lowbit.train.launch import launch
    from lowbit.train.observers import observers_of
    from lowbit.train.run import Interrupted

    data = read_manifest(data_folder)
    rows = []
    for method, spec in specs:
        place = folder / folder_name(spec, spec.arm) / f"seed{spec.seed}"
        summary = finished(place, spec, data)
        if summary is None:
            print(f"{method}, seed {spec.seed}: training in {place}", flush=True)
            try:
                summary = launch(spec, place, data_folder, observers=observers_of)
            except Interrupted as stop:
                print(f"{place}: {stop}")
                return stop.exit_status
        rows.append(row_of(method, spec.seed, summary))
    print("\n".join(table_of(rows)))
    path = args.csv or folder / "comparison.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")
    print(f"rows of all runs: {path}")
    return 0


def specs_of(methods: list[str], seeds: int, dataset: str, given: dict[str, Any]) -> list[tuple[str, "RunSpec"]]:
    """Method and spec of every run.

    Raises:
        UserError: for unknown methods, and for flags that choose a method themselves.
    """
    from lowbit import catalog
    from lowbit.commands._flags import spec_from
    from lowbit.commands.train import arm_of
    from lowbit.compressor_names import HISTORICAL
    from lowbit.errors import UserError

    common = given.get("exchange", {})
    if "method" in common or "name" in common.get("compressor", {}) or given.keys() & {"seed", "arm"}:
        raise UserError(
            "--methods and --seeds say what is trained: leave out --compressor, --exchange.method, --arm and --seed"
        )
    if seeds < 1:
        raise UserError(f"--seeds: must be at least 1, got {seeds}")
    known = [*_HOOKS, *dict.fromkeys([*HISTORICAL, *catalog.available("compressors")])]
    for method in methods:
        if method not in known:
            raise UserError(f"--methods: unknown {method!r}: {catalog.suggestion(method, known)}")
    exchanges = [exchange_of(method, common) for method in methods]
    if unused := common.keys() - {key for exchange in exchanges for key in exchange}:
        raise UserError(
            f"exchange.{min(unused)}: has no effect on any of {', '.join(methods)}; leave it out, or add a method"
        )
    task = f"{dataset}_{given.get('model', {}).get('name', 'resnet18')}"
    specs, of_exchange = [], {}
    for method, exchange in zip(methods, exchanges, strict=True):
        named = {"study": "compare", "task": task, "arm": arm_of(exchange), **given}
        of_method = [spec_from({**named, "exchange": exchange, "seed": s}, dataset=dataset) for s in range(seeds)]
        twin = of_exchange.setdefault(of_method[0].exchange.model_dump_json(), [])
        twin.append(method)
        if len(twin) > 1:
            raise UserError(f"--methods: {' and '.join(twin)} are the same exchange; leave one out")
        specs += [(method, spec) for spec in of_method]
    return specs


def exchange_of(method: str, common: dict[str, Any]) -> dict[str, Any]:
    """Settings of a method's exchange: what is common to all, as far as it has an effect on this one."""
    from lowbit.config_exchange import has_effect

    hook = _HOOKS.get(method, "sparse")
    acting = {key: value for key, value in common.items() if has_effect(key, hook, method)}
    if hook != "sparse":
        return {"method": hook, **acting}
    return {**acting, "compressor": {"name": method, **common.get("compressor", {})}}


def row_of(method: str, seed: int, summary: dict[str, Any]) -> dict[str, Any]:
    """What is told of a run: its metric on the test split, seconds and bytes of a step, share of compression in it.

    What is not known is NaN: the metric of processes whose models have drifted apart, the share where no hook tells it.
    """
    from lowbit.analysis.exchanges import overhead_share

    told = summary["exchange"]
    seconds = told["seconds"]
    drifted = _HOOKS.get(method) == "noop"
    return {
        "method": method,
        "seed": seed,
        "metric": summary["metric"],
        "value": math.nan if drifted else summary["test"]["best"][summary["metric"]],
        "step_seconds": seconds["step"],
        "wire_bytes": told["wire_bytes"] / told["steps"],
        "relative_bytes": told["wire_bytes"] / told["dense_wire_bytes"],
        "overhead_share": overhead_share(_HOOKS.get(method, "sparse"), seconds),
    }


def table_of(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of the table: means over seeds, with intervals where there are several."""
    import numpy as np

    from lowbit.analysis.statistics import band

    lines = [
        f"{'method':<16} {rows[0]['metric']:>28} {'ms a step':>10} {'bytes a step':>13} {'of dense':>9} {'overhead':>9}"
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        of_seeds = np.array([[row[c] for c in _COLUMNS] for row in rows if row["method"] == method])
        (value, step, sent, relative, overhead), low, high = band(of_seeds)
        known = f"{value:.4f}" + (f" [{low[0]:.4f}, {high[0]:.4f}]" if len(of_seeds) > 1 else "")
        known = "replicas drift apart" if math.isnan(value) else known
        share = "not told" if math.isnan(overhead) else f"{overhead:.1%}"
        lines.append(f"{method:<16} {known:>28} {1e3 * step:10.1f} {sent:13.0f} {relative:9.2%} {share:>9}")
    return lines
