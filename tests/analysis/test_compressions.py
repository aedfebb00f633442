"""The compressor study from runs to verdicts: tables say what was measured, verdicts what follows from it."""

import csv
import json
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_compressions import Fake

from lowbit import catalog
from lowbit.analysis import compression_verdicts, compressions, summary, tables, verdicts
from lowbit.analysis.compression_claims import CLAIMS, Bound
from lowbit.analysis.statistics import paired
from lowbit.commands import aggregate_compressors
from lowbit.config import load
from lowbit.errors import UserError


@pytest.fixture
def study(tmp_path):
    """Aggregates a fake study by the command, and reads what it wrote."""

    def aggregated(fake: Fake) -> SimpleNamespace:
        root = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        fake.write(root)
        paths = {"results": root, "verdicts": root / "verdicts/compressor.json", "tables": root / "tables"}
        arguments = Namespace(tasks=fake.tasks, **paths)
        assert aggregate_compressors.run(arguments) == 0
        found = verdicts.read(arguments.verdicts)
        return SimpleNamespace(
            verdicts={_named(verdict): verdict for verdict in found},
            tables=tables.load("compressor", arguments.tables, root / "verdicts"),
            folder=arguments.tables,
        )

    return aggregated


def _named(verdict: verdicts.Verdict) -> str:
    key = verdict.id.rpartition("/")[2]
    return f"gpu_{key}" if verdict.task == "GPU" else key


def test_speeds_are_held_to_the_claimed_bands(study):
    fast = {"hggtopk": {10_000: 2.5, 100_000: 7.0, 1_000_000: 3.0}}
    found = study(Fake(faster=fast)).verdicts
    within, above, below = (found[f"hggtopk_speed_{size}"] for size in ("10k", "100k", "1m"))
    assert [v.verdict for v in (within, above, below)] == ["supported", "supported", "refuted"]
    assert within.estimate == pytest.approx(2.5, rel=0.02)
    assert (within.n, above.n) == (4, 6), "densities and inputs at that size"
    assert "more than the claimed 4 to 5" in above.note
    assert "more than" not in within.note
    assert below.bound == "at least 6 times"
    assert below.device == "cpu: a chip, 1 thread"


def test_a_wide_interval_decides_nothing(study):
    found = study(Fake(faster={"hggtopk": {10_000: 2.2, 1_000_000: 20.0}}, spread=0.8)).verdicts
    assert found["hggtopk_speed_10k"].verdict == "inconclusive"
    assert found["hggtopk_speed_10k"].interval[0] < 2 < found["hggtopk_speed_10k"].interval[1]


def test_a_device_that_was_not_measured_on_is_never_guessed(study):
    found = study(Fake()).verdicts
    gpu = [v for name, v in found.items() if name.startswith("gpu_")]
    assert len(gpu) == sum(claim.device == "cuda" for claim in CLAIMS) > 0
    for verdict in gpu:
        assert (verdict.verdict, verdict.estimate, verdict.interval, verdict.n) == ("not measured here", None, None, 0)
        assert verdict.device == "no CUDA device was measured on"
    text = summary.text(found.values())
    assert "[NOT MEASURED HERE] HGG-TopK is 6 to 10 times faster" in text
    assert "no measurement on a GPU of the arm hggtopk at sizes from 1,000,000 entries on in this study" in text
    assert "not measured here" in summary.rst(list(found.values()))


def test_times_of_a_gpu_stand_for_themselves(study):
    result = study(Fake(faster={"hggtopk": {1_000_000: 9.0}}, on_gpu=0.25))
    here, there = (result.verdicts[f"{where}hggtopk_speed_1m"] for where in ("", "gpu_"))
    assert (here.verdict, there.verdict) == ("supported", "refuted")
    assert there.estimate == pytest.approx(0.25 * here.estimate, rel=0.05)
    assert (here.device, there.device) == ("cpu: a chip, 1 thread", "cuda: a card, 1 thread")
    cases = set(result.tables.further["benchmark"]["case"])
    assert {f"topk n=10000 density=0.01 input=real{of}" for of in ("", " device=cuda")} <= cases
    only = {
        name: table[table["device"] == "cuda"] for name, table in result.tables.further.items() if "device" in table
    }
    runs = result.tables.runs[result.tables.runs["device"] == "cuda"]
    judged = compression_verdicts.judge(runs, only["steps"], only["slopes"], result.tables.comparisons)
    outcomes = {v.id: v.verdict for v in judged}
    assert outcomes["compressor/GPU/hggtopk_speed_1m"] == "refuted"
    assert outcomes["compressor/CPU/hggtopk_speed_1m"] == "not measured here"


def test_an_arm_that_the_study_lacks_is_not_measured(study):
    found = study(Fake(without=("hggtopk",))).verdicts
    assert found["hggtopk_speed_1m"].verdict == "not measured here"
    assert found["hggtopk_accuracy"].note == "no measurement of recorded gradients of the arm hggtopk in this study"
    assert found["topk_step"].verdict == "supported"


@pytest.mark.parametrize(
    ("percent", "hggtopk", "topk"),
    [(2.0, "supported", "refuted"), (12.0, "refuted", "supported"), (20.0, "refuted", "refuted")],
)
def test_shares_of_a_training_step(study, percent, hggtopk, topk):
    found = study(Fake(percent={"hggtopk": percent, "topk": percent})).verdicts
    assert (found["hggtopk_step"].verdict, found["topk_step"].verdict) == (hggtopk, topk)
    assert found["hggtopk_step"].n == 5


@pytest.mark.parametrize(("exponent", "verdict"), [(1.0, "supported"), (0.6, "supported"), (1.4, "refuted")])
def test_complexity_is_an_upper_bound_of_the_slope(study, exponent, verdict):
    result = study(Fake(exponent={"hggtopk": exponent, "topk": 1.0}))
    found = result.verdicts
    assert found["hggtopk_complexity"].verdict == verdict
    assert found["hggtopk_complexity"].estimate == pytest.approx(exponent - 1, abs=0.02)
    slopes = result.tables.further["slopes"]
    own = slopes[(slopes["arm"] == "topk") & (slopes["density"] == 0.01)]
    expected = 1 + np.log10(np.log2(10_000) / np.log2(1000))  # N log k from 100,000 to 1,000,000 entries
    assert own["slope_n_log_k"].tolist() == pytest.approx([expected] * len(own))
    assert set(own["smallest"]) == {100_000}, "smaller gradients are left out: fixed costs decide there"


def test_accuracy_is_at_the_k_that_was_asked_for_where_k_is_not_tiny(study):
    result = study(Fake(error={"hggtopk": 0.0, "hggtopk_inexact": 0.03}, sent={"gaussian": 1.2, "redsync": 0.8}))
    found = result.verdicts
    assert found["hggtopk_accuracy"].verdict == "supported"
    assert found["hggtopk_inexact_accuracy"].verdict == "refuted"
    assert found["hggtopk_inexact_accuracy"].estimate == pytest.approx(97)
    assert (found["gaussian_window"].verdict, found["redsync_window"].verdict) == ("supported", "refuted")
    assert found["gaussian_window"].n == 3, "seeds"
    rows = result.tables.comparisons
    assert set(rows[rows["source"] == "first"]["k"]) == {1, 3}
    noisy = rows.assign(accuracy_percent=np.where(rows["k"] < 10, 0.0, 100.0))
    judged = compression_verdicts.judge(
        result.tables.runs, result.tables.further["steps"], result.tables.further["slopes"], noisy
    )
    assert next(v for v in judged if v.id.endswith("/hggtopk_accuracy")).estimate == 100.0


def test_one_value_decides_nothing(study):
    assert study(Fake(seeds=1)).verdicts["hggtopk_accuracy"].verdict == "inconclusive"


@pytest.mark.parametrize(
    ("bound", "values", "verdict"),
    [
        (Bound(low=2), [3.0, 3.1, 3.2], "supported"),
        (Bound(low=2), [1.0, 1.1, 1.2], "refuted"),
        (Bound(low=2), [1.0, 3.0, 2.5], "inconclusive"),
        (Bound(high=2), [1.0, 1.1, 1.2], "supported"),
        (Bound(high=2), [3.0, 3.1, 3.2], "refuted"),
        (Bound(low=2, high=4), [2.9, 3.0, 3.1], "supported"),
        (Bound(low=2, high=4), [4.9, 5.0, 5.1], "refuted"),
        (Bound(low=2, high=4), [1.0, 3.0, 5.0], "inconclusive"),
        (Bound(low=2), [1.0, 1.9, 2.9], "inconclusive"),
        (Bound(high=2), [1.0, 2.1, 3.2], "inconclusive"),
        (Bound(low=2, high=4), [3.3, 4.5, 5.0], "inconclusive"),
        (Bound(low=2), [5.0], "inconclusive"),
        (Bound(low=2), [1.0], "inconclusive"),
    ],
)
def test_bounds(bound, values, verdict):
    assert (
        compression_verdicts.decide(SimpleNamespace(of="selections", bound=bound), paired(np.array(values)))[0]
        == verdict
    )


def test_the_tables_hold_what_was_measured(study):
    result = study(Fake(sent={"gaussian_reference": 3.0}))
    with (result.folder / "compressor_benchmark.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    case = {row["metric"]: row for row in rows if row["case"] == "hggtopk n=100000 density=0.01 input=normal"}
    assert case.keys() >= {"milliseconds", "ratio_to_topk_quartile_low", "nnz_over_k", "threshold_error", "recall"}
    assert case["milliseconds"]["unit"] == "ms"
    assert {row["case"].split(" n=")[0] for row in rows} >= {"torch_topk", "floor", "bins num_bins 16"}
    modes = result.tables.further["modes"]
    pair = modes[(modes["method"] == "gaussian") & (modes["input"] == "real") & (modes["density"] == 0.01)].set_index(
        "mode"
    )
    assert pair.loc["reference", "nnz/k median"] == pytest.approx(3.0, rel=0.05)
    assert pair.loc["fixed", "nnz/k median"] == pytest.approx(1.0, rel=0.05)
    matrix = result.tables.further["matrix"].set_index("arm")
    assert matrix.loc["topk", "promises k"] == "yes"
    assert matrix.loc["hggtopk", "passes over N"] == 2
    assert matrix.loc["hggtopk", "extra bytes per entry"] == pytest.approx(4.0, rel=1e-4)
    audit = result.tables.further["audit"]
    assert len(audit) == len(CLAIMS)
    page = (result.folder / "compressor_audit.html").read_text()
    assert "not measured here" in page
    assert "a chip" in page


def test_nothing_sent_is_an_error_of_all(study, tmp_path):
    fake = Fake(seeds=1)
    fake.write(tmp_path / "x")
    path = tmp_path / "x/compressor/quality/events.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["type"] == "selections" and line["arm"] == "sidco":
            line["threshold_error"] = [None] * len(line["threshold_error"])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = compressions.comparisons_table(compressions.read_study(tmp_path / "x")["quality"])
    assert set(table[table["arm"] == "sidco"]["accuracy_percent"]) == {0.0}
    assert set(table[table["arm"] == "topk"]["accuracy_percent"]) == {100.0}


def test_claims_are_of_arms_and_figures_that_the_default_study_has():
    arms = load("workflow_config.yaml").studies["compressor"].arms
    for claim in CLAIMS:
        assert claim.arm in arms
        assert claim.figure in catalog.available("analysis/figures/compressor")
    assert len({(claim.key, claim.device) for claim in CLAIMS}) == len(CLAIMS)


def test_an_unfinished_run_is_named(tmp_path):
    with pytest.raises(UserError, match=r"compressor/speed: not a finished run .*python -m lowbit compress"):
        compressions.read_study(tmp_path)
