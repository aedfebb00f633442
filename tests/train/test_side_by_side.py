"""Steps of all arms are timed turn by turn, each in an order of its own; those at its beginning do not count."""

import json
from statistics import median

import pytest
from rank_processes import finished, said, start
from small_runs import lines_of, small_spec

from lowbit.config import ConfigError, load
from lowbit.cost import PARTS
from lowbit.timing_spec import Timing, TimingSpec
from lowbit.train import side_by_side

ARMS = {
    "dense": {"method": "allreduce"},
    "half": {"method": "bf16"},
    "topk": {"compressor": {"name": "topk"}, "density": 0.05, "warmup": [0.5], "warmup_epochs": 1.0},
}
SEEDS = (0, 1)
TIMING = Timing(turns=2, untimed_steps=2, steps=3)


def runs_of(**arms):
    named = {"study": "exchange", "task": "small", "train": {"evaluations_per_epoch": 6}}
    return [small_spec("vit", **named, arm=a, seed=s, exchange=e) for a, e in arms.items() for s in SEEDS]


@pytest.fixture(scope="module")
def timed(images, tmp_path_factory):
    """The folder of a timing of all arms."""
    folder = tmp_path_factory.mktemp("timing") / "small"
    process = start(TimingSpec.of(TIMING, runs_of(**ARMS)), folder, images, "time-steps")
    assert finished(process) == 0, said(folder).read_text()
    return folder


def test_every_arm_has_its_steps_in_every_turn_and_none_of_the_first_count(timed):
    found = [(line["arm"], line["seed"], line["turn"], line["step"]) for line in lines_of(timed / "events.jsonl")]
    assert len(found) == len(set(found))
    assert set(found) == {(a, s, t, step) for a in ARMS for s in SEEDS for t in range(2) for step in (3, 4, 5)}


def test_the_summary_has_medians_of_all_turns(timed):
    seconds = json.loads((timed / "summary.json").read_text())["seconds"]
    lines = [json.loads(line) for line in (timed / "events.jsonl").read_text().splitlines()]
    for arm, seed, part in ((a, s, p) for a in ARMS for s in SEEDS for p in PARTS):
        own = [line[f"{part}_seconds"] for line in lines if (line["arm"], line["seed"]) == (arm, seed)]
        assert seconds[arm][str(seed)][part] == median(own)
    assert seconds["topk"]["0"]["compress"] > 0 == seconds["dense"]["0"]["compress"]
    assert all(seconds[arm]["1"]["step"] > seconds[arm]["1"]["backward"] > 0 for arm in ARMS)
    assert not (timed / "work").exists()


def test_turns_have_orders_of_their_own(images):
    many = runs_of(**{f"arm{n}": {"method": "allreduce", "bucket_mb": 1 + n} for n in range(9)})
    spec = TimingSpec.of(Timing(turns=3), many)
    orders = [[run.arm for run in piece.args[1]] for piece in side_by_side.pieces(spec, images).values()]
    assert len(orders) == 6
    assert len(set(map(tuple, orders))) == 6
    assert all(sorted(order) == sorted({run.arm for run in many}) for order in orders)


def test_the_final_density_is_timed_and_nothing_else(images):
    (spec, *_) = runs_of(topk=ARMS["topk"])
    bare = side_by_side._without_interruptions(spec, 5)
    assert (bare.exchange.warmup, bare.exchange.density, bare.record.log_every) == ((), 0.05, 5)


def test_a_run_that_is_too_short_is_named(images, tmp_path):
    spec = TimingSpec.of(Timing(untimed_steps=10, steps=10), runs_of(dense=ARMS["dense"]))
    assert finished(start(spec, tmp_path / "short", images, "time-steps")) == 2
    assert (
        "exchange/small/dense/seed0: trains 12 steps, and timing needs 20: lower"
        in said(tmp_path / "short").read_text()
    )


def test_a_spec_holds_its_runs_whole():
    runs = [
        run.model_copy(update={"start_from": f"results/pretrain/small/seed{run.seed}/w"}) for run in runs_of(**ARMS)
    ]
    spec = TimingSpec.model_validate_json(TimingSpec.of(TIMING, runs).to_json())
    assert spec.runs == tuple(runs)
    assert (spec.path, spec.ranks, spec.gpus) == ("timing/small", 2, 0)
    assert len(spec.to_json()) < 2 * len(runs[0].to_json())


def test_runs_in_one_process_are_refused():
    with pytest.raises(ValueError, match="arms: dense: in one process"):
        TimingSpec.of(TIMING, runs_of(dense=None))


def test_only_the_exchange_study_is_timed():
    with pytest.raises(ConfigError, match=r"studies\.softmax\.timing: has no effect"):
        load("workflow_config.yaml", studies={"softmax": {"timing": {"turns": 5}}})
