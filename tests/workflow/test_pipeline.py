"""The whole pipeline on a tiny study: outputs, verdicts, report, checksums, and a second run that does nothing."""

import csv
import json

import pytest

pytestmark = pytest.mark.workflow

ARMS = ("standard", "base2", "e_t1443", "pretrained")


def test_every_declared_output_is_there(finished):
    results = finished.folder / "results"
    for arm in ARMS:
        for seed in (0, 1):
            folder = results / f"softmax/digits_vit/{arm}/seed{seed}"
            names = {p.name for p in folder.iterdir()}
            assert names == {"spec.json", "events.jsonl", "summary.json", "manifest.json"}, folder
    for figure in finished.folder.glob("lowbit/analysis/figures/softmax/[a-z]*.py"):
        assert (results / f"figures/softmax/{figure.stem}.png").stat().st_size > 10_000
        assert (results / f"figures/softmax/{figure.stem}.svg").stat().st_size > 1_000
    assert (results / "pretrain/digits_vit/seed0/weights.safetensors").exists()


def test_it_ends_by_printing_verdicts_and_where_the_report_is(finished):
    end = finished.output[finished.output.rindex("Study softmax") :]
    assert "Report: results/report.html" in end
    assert "Base-2 softmax" in end


def test_verdicts_are_records_with_every_field(finished):
    records = json.loads((finished.folder / "results/verdicts/softmax.json").read_text())["verdicts"]
    fields = {"id", "study", "claim", "source", "measure", "unit", "estimate", "interval", "level", "n", "threshold"}
    fields |= {"device", "verdict", "figure"}
    assert len(records) >= 4
    assert all(fields <= record.keys() for record in records)


def test_the_control_holds_through_the_whole_pipeline(finished):
    runs = finished.folder / "results/softmax/digits_vit"
    digests = {
        arm: json.loads((runs / arm / "seed0/summary.json").read_text())["weights_sha256"]
        for arm in ("base2", "e_t1443")
    }
    assert digests["base2"] == digests["e_t1443"]
    standard = json.loads((runs / "standard/seed0/summary.json").read_text())["weights_sha256"]
    assert standard != digests["base2"]


def test_two_training_studies_share_a_checkpoint_and_its_epochs_are_counted(finished):
    results = finished.folder / "results"
    starts = {
        study: json.loads((results / f"{study}/digits_vit/pretrained/seed0/spec.json").read_text())["start_from"]
        for study in ("softmax", "transfer")
    }
    assert set(starts.values()) == {"results/pretrain/digits_vit/seed0/weights.safetensors"}
    with (results / "tables/transfer_runs.csv").open(newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert {arm: (float(row["epochs_before"]), float(row["epochs"])) for arm, row in rows.items()} == {
        "scratch": (0, 1),
        "pretrained": (0.5, 0.5),
    }
    records = json.loads((results / "verdicts/transfer.json").read_text())["verdicts"]
    assert not [record["id"] for record in records if "control" in record["id"]], "a study without controls has none"
    outcomes = {record["id"].rpartition("/")[2]: record["verdict"] for record in records}
    assert outcomes.pop("pretraining_helps") == "inconclusive", "one seed decides nothing"
    assert set(outcomes.values()) == {"not measured here"}
    assert (results / "figures/transfer/pretraining_and_mixup.svg").stat().st_size > 1_000


def test_a_pretrained_arm_starts_from_the_checkpoint(finished):
    runs = finished.folder / "results"
    first = {}
    for arm in ("standard", "pretrained"):
        lines = (runs / f"softmax/digits_vit/{arm}/seed0/events.jsonl").read_text().splitlines()
        first[arm] = json.loads(lines[0])["loss"]
    assert first["pretrained"] != first["standard"]


def test_the_report_opens_on_the_verdicts(finished):
    page = (finished.folder / "results/report.html").read_text()
    opening = page[page.index("workflow_desc") :][:8000]
    assert "Verdicts" in opening
    assert "Base-2 softmax" in opening
    assert "accuracy_and_loss" in page
    assert "Figures of transfer" in page


def test_checksums_hold_and_damage_is_found(finished):
    assert finished.lowbit("verify", "results").returncode == 0
    path = finished.folder / "results/softmax/digits_vit/base2/seed1/events.jsonl"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-10])
        result = finished.lowbit("verify", "results")
    finally:
        path.write_bytes(content)
    assert result.returncode == 1
    assert "base2/seed1/events.jsonl" in result.stdout + result.stderr


def test_a_run_is_made_again_from_its_spec_alone(finished):
    original = finished.folder / "results/softmax/digits_vit/base2/seed0"
    result = finished.lowbit("train", "--spec", str(original / "spec.json"), "--folder", "again")
    assert result.returncode == 0, result.stderr
    summaries = [json.loads((f / "summary.json").read_text()) for f in (original, finished.folder / "again")]
    assert summaries[0]["weights_sha256"] == summaries[1]["weights_sha256"]
    assert summaries[0]["test"] == summaries[1]["test"]


def test_a_cuda_run_that_was_granted_no_gpu_stops_with_a_message(finished):
    spec = json.loads((finished.folder / "results/softmax/digits_vit/base2/seed0/spec.json").read_text())
    text = json.dumps({**spec, "device": "cuda"})
    result = finished.lowbit("train", "--spec", text, "--folder", "unused", "--gpus-granted", "0")
    assert result.returncode == 2
    assert "gpu" in result.stderr.lower()
    assert "Traceback" not in result.stderr
    assert not (finished.folder / "unused").exists()
