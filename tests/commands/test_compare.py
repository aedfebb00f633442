"""`lowbit compare`: what each method trains, what the table says, and that nothing is trained twice."""

import csv
import json
from pathlib import Path

import pytest

from lowbit.__main__ import main
from lowbit.commands.compare import specs_of
from lowbit.errors import UserError
from lowbit.train.identity import identity_of

SECONDS = {"step": 0.02, "compress": 0.002, "decompress": 0.001}
TOLD = {"wire_bytes": 4000, "dense_wire_bytes": 4000, "steps": 10, "seconds": SECONDS}
DATA = {"kind": "images", "of": "today"}


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder that is taken for a prepared dataset."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/manifest.json").write_text(json.dumps(DATA))
    return tmp_path / "data"


def finish(place: Path, spec, content: dict) -> None:
    """Files of a finished run."""
    place.mkdir(parents=True)
    (place / "spec.json").write_text(spec.to_json())
    (place / "manifest.json").write_text("{}")
    content = {"metric": "accuracy", "exchange": TOLD, "identity": identity_of(spec, DATA)} | content
    (place / "summary.json").write_text(json.dumps(content))


def exchanges(methods: list[str], **given) -> dict:
    return {method: spec.exchange for method, spec in specs_of(methods, 1, "digits", given)}


def test_every_method_gets_the_settings_that_act_on_it():
    common = {"density": "0.05", "ranks": "3", "matrix_rank": "2", "pipeline": False}
    common |= {"timeout_seconds": "9", "bucket_mb": "2", "check_every_steps": "7"}
    found = exchanges(["baseline", "topk2", "randomk", "bf16", "powersgd", "none"], exchange=common)
    methods = {name: e.method for name, e in found.items()}
    assert methods == {"baseline": "allreduce", "bf16": "bf16", "powersgd": "powersgd"} | dict.fromkeys(
        ("topk2", "randomk", "none"), "sparse"
    )
    assert {(e.ranks, e.timeout_seconds, e.bucket_mb) for e in found.values()} == {(3, 9, 2)}
    assert (found["topk2"].density, found["topk2"].pipeline, found["topk2"].matrix_rank) == (0.05, False, 1)
    assert (found["topk2"].compressor.name, found["topk2"].feedback.name) == ("topk", "none")
    assert (found["powersgd"].matrix_rank, found["powersgd"].density) == (2, 0.01)
    none = found["none"]
    assert (none.pipeline, none.check_every_steps, none.density, none.matrix_rank) == (False, 7, 0.01, 1)


def test_seeds_and_arms_have_folders_of_their_own():
    specs = [spec for _, spec in specs_of(["baseline", "topk"], 2, "digits", {"exchange": {"density": "0.1"}})]
    assert [(s.arm, s.seed) for s in specs] == [("allreduce", 0), ("allreduce", 1), ("topk-0.1", 0), ("topk-0.1", 1)]
    assert len({spec.path for spec in specs}) == 4


@pytest.mark.parametrize(
    ("methods", "given", "message"),
    [
        (["topkk"], {}, r"unknown 'topkk': .*did you mean 'topk'"),
        (["topk"], {"exchange": {"compressor": {"name": "topk"}}}, r"leave out --compressor"),
        (["topk"], {"seed": "3"}, r"leave out .*--seed"),
        (["topk"], {"arm": "mine"}, r"leave out .*--arm"),
        (["topk", "bf16", "topk"], {}, r"topk and topk are the same exchange; leave one out"),
        (["baseline", "allreduce"], {}, r"baseline and allreduce are the same"),
        (["topk", "topk2"], {"exchange": {"feedback": {"name": "residual"}}}, r"topk and topk2 are the same"),
        (["baseline", "none"], {"exchange": {"density": "0.1"}}, r"exchange\.density: .* any of baseline, none; leave"),
        (["topk"], {"exchange": {"matrix_rank": "2"}}, r"exchange\.matrix_rank: has no effect on any of topk"),
    ],
)
def test_wrong_input_is_explained(methods, given, message):
    with pytest.raises(UserError, match=message):
        specs_of(methods, 1, "digits", given)


def compared(tmp_path: Path, data: Path, *arguments: str) -> int:
    return main(["compare", *arguments, "--folder", str(tmp_path), "--data-folder", str(data)])


def test_table_and_rows_come_from_runs_that_are_not_trained_again(tmp_path, data, capsys, monkeypatch):
    """Runs of two seeds stand there finished, so that nothing is trained."""
    methods, values = ["baseline", "hggtopk"], {("baseline", 0): 0.9, ("baseline", 1): 0.8, ("hggtopk", 0): 0.7}
    values[("hggtopk", 1)] = 0.9
    monkeypatch.setattr("lowbit.train.launch.launch", lambda *a, **k: pytest.fail("trained again"))
    for method, spec in specs_of(methods, 2, "digits", {}):
        exchange = TOLD | {"wire_bytes": 4000 if method == "baseline" else 100}
        test = {"best": {"accuracy": values[method, spec.seed]}}
        finish(tmp_path / spec.arm / f"seed{spec.seed}", spec, {"test": test, "exchange": exchange})
    assert compared(tmp_path, data, "--methods", *methods, "--seeds", "2") == 0
    header, baseline, hggtopk, _ = capsys.readouterr().out.splitlines()
    assert "accuracy" in header
    assert baseline.split()[0] == "baseline"
    assert "0.8500 [0.2147, 1.4853]" in baseline  # 0.85 +- 12.706 * 0.0707 / sqrt(2)
    assert baseline.split()[-2:] == ["100.00%", "15.0%"]
    assert hggtopk.split()[-2:] == ["2.50%", "15.0%"]
    rows = list(csv.DictReader((tmp_path / "comparison.csv").open()))
    assert {(r["method"], int(r["seed"])): float(r["value"]) for r in rows} == values
    assert {float(r["wire_bytes"]) for r in rows} == {400.0, 10.0}


def test_replicas_that_drift_apart_have_times_and_no_result(tmp_path, data, capsys):
    ((_, spec),) = specs_of(["noop"], 1, "digits", {})
    sent = TOLD | {"wire_bytes": 0}
    finish(tmp_path / "noop/seed0", spec, {"test": {"best": {"accuracy": 0.875}}, "exchange": sent})
    assert compared(tmp_path, data, "--methods", "noop") == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == ["noop", "replicas", "drift", "apart", "20.0", "0", "0.00%", "15.0%"]
    assert "875" not in (tmp_path / "comparison.csv").read_text()


def test_an_overhead_that_no_hook_tells_is_none(tmp_path, data, capsys):
    methods = ["baseline", "fp16", "bf16", "powersgd"]
    silent = {"seconds": {"step": 0.02, "compress": 0.0, "decompress": 0.0}}
    for _, spec in specs_of(methods, 1, "digits", {}):
        test = {"best": {"accuracy": 0.5}}
        finish(tmp_path / spec.arm / f"seed{spec.seed}", spec, {"test": test, "exchange": TOLD | silent})
    assert compared(tmp_path, data, "--methods", *methods) == 0
    _, baseline, *hooks, _ = capsys.readouterr().out.splitlines()
    assert baseline.endswith(" 0.0%")
    assert all(line.endswith(" not told") for line in hooks)


def test_the_metric_of_text_is_perplexity(tmp_path, data, capsys):
    ((_, spec),) = specs_of(["topk"], 1, "stdlib_text", {"model": {"name": "gpt"}})
    best = {"loss": 1.5, "perplexity": 4.4817, "accuracy": 0.5}
    finish(tmp_path / "topk-0.01/seed0", spec, {"metric": "perplexity", "test": {"best": best}})
    assert compared(tmp_path, data, "--methods", "topk", "--dataset", "stdlib_text", "--model", "gpt") == 0
    header, line, _ = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["method", "perplexity"]
    assert line.split()[1] == "4.4817"


@pytest.mark.parametrize("changed", ["spec", "data", "start", "code"])
def test_a_run_that_would_come_out_otherwise_today_is_trained_again(changed, tmp_path, data, monkeypatch):
    start = tmp_path / "start.safetensors"
    start.write_bytes(b"weights")
    ((_, spec),) = specs_of(["topk"], 1, "digits", {"start_from": str(start)})
    trained: list[Path] = []

    def launched(spec, place, data, **settings):
        trained.append(place)
        raise UserError("enough")

    monkeypatch.setattr("lowbit.train.launch.launch", launched)
    arguments = ("--methods", "topk", "--start-from", str(start))
    assert compared(tmp_path, data, *arguments) == 2
    (place,) = trained
    finish(place, spec, {"test": {"best": {"accuracy": 0.5}}})
    assert compared(tmp_path, data, *arguments) == 0
    summary = json.loads((place / "summary.json").read_text())
    summary["identity"][changed] = "of yesterday"
    (place / "summary.json").write_text(json.dumps(summary))
    assert compared(tmp_path, data, *arguments) == 2
    assert trained == [place, place]


def test_runs_of_other_settings_have_other_folders(tmp_path, data, monkeypatch):
    trained: list[Path] = []

    def launched(spec, place, data, **settings):
        trained.append(place)
        raise UserError("enough")

    monkeypatch.setattr("lowbit.train.launch.launch", launched)
    for more in ((), ("--lr", "0.5"), ("--lr", "0.25"), ("--lr", "0.5"), ("--log-every", "5")):
        compared(tmp_path, data, "--methods", "topk", *more)
    plain, half, quarter, again, logged = (place.parent.name for place in trained)
    assert plain == logged == "topk-0.01"
    assert half == again != quarter
    assert half.startswith("topk-0.01-")
    assert quarter.startswith("topk-0.01-")
