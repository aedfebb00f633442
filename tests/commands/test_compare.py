"""`lowbit compare`: what each method trains, what the table says, and that nothing is trained twice."""

import csv
import json
from pathlib import Path

import pytest

from lowbit.__main__ import main
from lowbit.commands.compare import specs_of
from lowbit.errors import UserError


def exchanges(methods: list[str], **given) -> dict:
    return {method: spec.exchange for method, spec in specs_of(methods, 1, "digits", given)}


def test_every_method_gets_the_settings_that_act_on_it():
    common = {"density": "0.05", "ranks": "3", "matrix_rank": "2", "pipeline": False}
    found = exchanges(["baseline", "topk2", "randomk", "bf16", "powersgd", "none"], exchange=common)
    methods = {name: e.method for name, e in found.items()}
    assert methods == {"baseline": "allreduce", "bf16": "bf16", "powersgd": "powersgd"} | dict.fromkeys(
        ("topk2", "randomk", "none"), "sparse"
    )
    assert {e.ranks for e in found.values()} == {3}
    assert (found["topk2"].density, found["topk2"].pipeline, found["topk2"].matrix_rank) == (0.05, False, 1)
    assert (found["topk2"].compressor.name, found["topk2"].feedback.name) == ("topk", "none")
    assert (found["powersgd"].matrix_rank, found["powersgd"].density) == (2, 0.01)


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
    ],
)
def test_wrong_input_is_explained(methods, given, message):
    with pytest.raises(UserError, match=message):
        specs_of(methods, 1, "digits", given)


def test_table_and_rows_come_from_runs_that_are_not_trained_again(tmp_path, capsys, monkeypatch):
    """Runs of two seeds stand there finished, so that nothing is trained."""
    methods, values = ["baseline", "hggtopk"], {("baseline", 0): 0.9, ("baseline", 1): 0.8, ("hggtopk", 0): 0.7}
    values[("hggtopk", 1)] = 0.9
    monkeypatch.setattr("lowbit.train.launch.launch", lambda *a, **k: pytest.fail("trained again"))
    for method, spec in specs_of(methods, 2, "digits", {}):
        folder = tmp_path / spec.arm / f"seed{spec.seed}"
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(spec.to_json())
        (folder / "manifest.json").write_text("{}")
        sent = 4000 if method == "baseline" else 100
        seconds = {"step": 0.02, "compress": 0.002, "decompress": 0.001}
        told = {"wire_bytes": sent, "dense_wire_bytes": 4000, "steps": 10, "seconds": seconds}
        test = {"best": {"accuracy": values[method, spec.seed]}}
        content = {"metric": "accuracy", "test": test, "exchange": told, "identity": {"code": spec.code_digest}}
        (folder / "summary.json").write_text(json.dumps(content))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/manifest.json").write_text("{}")
    arguments = ["--methods", *methods, "--seeds", "2", "--folder", str(tmp_path)]
    assert main(["compare", *arguments, "--data-folder", str(tmp_path / "data")]) == 0
    header, baseline, hggtopk, _ = capsys.readouterr().out.splitlines()
    assert "accuracy" in header
    assert baseline.split()[0] == "baseline"
    assert "0.8500 [0.2147, 1.4853]" in baseline  # 0.85 +- 12.706 * 0.0707 / sqrt(2)
    assert baseline.split()[-2:] == ["100.00%", "15.0%"]
    assert hggtopk.split()[-2:] == ["2.50%", "15.0%"]
    rows = list(csv.DictReader((tmp_path / "comparison.csv").open()))
    assert {(r["method"], int(r["seed"])): float(r["value"]) for r in rows} == values
    assert {float(r["wire_bytes"]) for r in rows} == {400.0, 10.0}


def test_a_run_of_other_code_is_trained_again(tmp_path, monkeypatch):
    ((_, spec),) = specs_of(["topk"], 1, "digits", {})
    folder = tmp_path / spec.arm / "seed0"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(spec.to_json())
    (folder / "manifest.json").write_text("{}")
    (folder / "summary.json").write_text(json.dumps({"identity": {"code": "of yesterday"}}))
    (tmp_path / "manifest.json").write_text("{}")
    trained: list[Path] = []

    def launched(spec, place, data, **settings):
        trained.append(place)
        raise UserError("enough")

    monkeypatch.setattr("lowbit.train.launch.launch", launched)
    arguments = ["--methods", "topk", "--folder", str(tmp_path), "--data-folder", str(tmp_path)]
    assert main(["compare", *arguments]) == 2
    assert trained == [folder]
