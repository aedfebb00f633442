"""Two ranks train as one does; what is interrupted goes on, bit for bit; a rank that dies ends the run."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from rank_processes import await_that, children, finished, said, start, train
from small_runs import assert_identical, changed, follow, lines_of, small_spec

from lowbit.errors import UserError
from lowbit.train.assemble import assemble
from lowbit.train.checkpoint import load_weights
from lowbit.train.parallel import Ranks

DOUBLE = {"precision": "float64", "clip_norm": 1.0, "weight_decay": 0.01}
DENSE = {"method": "allreduce"}
SPECS = {
    "vit": small_spec(
        "vit", train=DOUBLE | {"mixup": 0.3, "epochs": 0.5}, loss={"label_smoothing": 0.1}, exchange=DENSE
    ),
    # Shares of 15 sequences are 8 and 7, in micro-batches of 5: one exchange a step, of both micro-batches together.
    "gpt": small_spec(
        "gpt", train=DOUBLE | {"batch_size": 5, "gradient_accumulation_steps": 3, "epochs": 1}, exchange=DENSE
    ),
}
SPARSE = {"density": 0.05, "warmup": [0.5, 0.2], "warmup_epochs": 0.7, "check_every_steps": 4, "bucket_mb": 0.005}


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def steps_in(folder: Path) -> int:
    """Lines that a run has written so far."""
    events = folder / "work/events.jsonl"
    return len(events.read_bytes().splitlines()) if events.exists() else 0


def assert_same(one: Path, other: Path) -> None:
    """Results and records of two runs; a step after an interruption has other buckets, and so other messages."""
    for key in ("weights_sha256", "test", "validation"):
        assert summary_of(one)[key] == summary_of(other)[key]
    lines, others = (
        [{k: v for k, v in line.items() if k != "messages"} for line in lines_of(folder / "events.jsonl")]
        for folder in (one, other)
    )
    assert lines == others


@pytest.mark.parametrize("name", SPECS)
def test_two_ranks_train_as_one_process(name, folder_of, tmp_path):
    spec, data = SPECS[name], folder_of[SPECS[name].model.name]
    train(spec, tmp_path / "seed0", data)
    alone = follow(changed(spec, exchange=None), data)
    steps = [line for line in lines_of(tmp_path / "seed0/events.jsonl") if line["type"] == "step"]
    assert len(steps) == len(alone.records) >= 3
    for record, other in zip(alone.records, steps, strict=True):
        for key in ("loss", "accuracy", "gradient_norm", "clipped", "epoch", "lr"):
            assert other[key] == pytest.approx(record[key], rel=1e-9), (key, record["step"])
    assert any(record["clipped"] for record in steps)
    # A ring of two sends every float64 entry once, from each rank, in a step: 2 ranks, 2 (P - 1) / P of 8 bytes.
    told = summary_of(tmp_path / "seed0")["exchange"]
    assert told["wire_bytes"] == len(steps) * 2 * 8 * told["parameters"]
    assert {line["wire_bytes"] for line in steps} == {2 * 8 * told["parameters"]}
    assert summary_of(tmp_path / "seed0")["test"]["last"] == pytest.approx(alone.results["last"], rel=1e-9)


def test_density_one_is_dense_training_and_says_what_it_sent(images, tmp_path):
    spec = small_spec("vit", train={"epochs": 0.5}, exchange=DENSE)
    train(spec, tmp_path / "dense/seed0", images)
    everything = {"method": "sparse", "density": 1.0}
    train(changed(spec, exchange=everything), tmp_path / "whole/seed0", images)
    train(changed(spec, exchange=everything | {"feedback": {"name": "none"}}), tmp_path / "forgets/seed0", images)
    train(changed(spec, exchange={"method": "sparse", "density": 0.01}), tmp_path / "sparse/seed0", images)
    names = ("dense", "whole", "forgets", "sparse")
    dense, whole, forgets, sparse = (summary_of(tmp_path / name / "seed0") for name in names)
    assert dense["weights_sha256"] == whole["weights_sha256"] == forgets["weights_sha256"] != sparse["weights_sha256"]
    assert dense["test"] == whole["test"] == forgets["test"]
    numbers = dense["parameters"]
    for summary in (dense, whole, forgets, sparse):
        told = summary["exchange"]
        assert (told["ranks"], told["steps"], told["parameters"]) == (2, 3, numbers)
        assert told["dense_wire_bytes"] == 3 * 2 * 4 * numbers
    assert dense["exchange"]["wire_bytes"] == whole["exchange"]["wire_bytes"] == dense["exchange"]["dense_wire_bytes"]
    assert dense["exchange"]["entries_sent"] == whole["exchange"]["entries_sent"] == 1
    assert (dense["exchange"]["messages"], sparse["exchange"]["messages"]) == (2, 3)
    model = assemble(changed(spec, exchange=None), images).state.model
    vectors = sum(p.numel() for p in model.parameters() if p.ndim == 1)
    chosen = sum(max(1, int(0.01 * p.numel())) for p in model.parameters() if p.ndim > 1)
    assert sparse["exchange"]["entries_sent"] == pytest.approx((vectors + chosen) / numbers)
    assert sparse["exchange"]["wire_bytes"] == 3 * 2 * (8 * chosen + 4 * vectors)
    seconds = sparse["exchange"]["seconds"]
    assert seconds.keys() == {"forward", "backward", "compress", "communicate", "decompress", "update", "step"}
    assert all(value > 0 for value in seconds.values())
    assert seconds["forward"] + seconds["backward"] + seconds["update"] < 1.1 * seconds["step"]


def test_batch_norm_is_of_a_share_and_evaluated_with_the_statistics_of_the_first(images, tmp_path):
    spec = small_spec("resnet18", train={"epochs": 1 / 6}, record={"save_checkpoints": True}, exchange=DENSE)
    train(spec, tmp_path / "seed0", images)
    run = assemble(changed(spec, exchange=None), images)
    assert run.steps == 1
    batch = run.batches.training(0)
    with torch.no_grad():
        run.state.model.train()(batch.part(Ranks(0, 2).share(len(batch.inputs))).inputs)
    saved = load_weights(tmp_path / "seed0/weights.safetensors")
    statistics = {name: buffer for name, buffer in run.state.model.named_buffers() if name.endswith("running_mean")}
    assert statistics
    for name, buffer in statistics.items():
        torch.testing.assert_close(saved[name], buffer)


def test_interrupted_ranks_go_on_as_if_nothing_had_been(images, tmp_path):
    """Stopped by a signal, a rank killed, everything killed: the same bits and records in the end."""
    spec = small_spec(
        "vit", train={"epochs": 8}, record={"resume_seconds": 0, "save_checkpoints": True}, exchange=SPARSE
    )
    folder = tmp_path / "broken/seed0"
    work = folder / "work"

    def begun() -> tuple:
        """A command that has gone on for some steps, and its ranks."""
        before, process = steps_in(folder), start(spec, folder, images)
        await_that(lambda: steps_in(folder) > before + 4 and (work / "state.safetensors").exists())
        ranks = children(process.pid)
        assert len(ranks) == 2
        return process, ranks

    process, ranks = begun()
    os.kill(process.pid, signal.SIGTERM)
    assert finished(process) == 128 + signal.SIGTERM
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)

    process, ranks = begun()
    os.kill(ranks[1], signal.SIGKILL)
    assert finished(process, 60) == 2
    assert "rank 1 of 2 was ended by SIGKILL" in said(folder).read_text()
    assert "does not answer" in said(folder).read_text()

    process, ranks = begun()
    for pid in (*ranks, process.pid):
        os.kill(pid, signal.SIGKILL)
    assert finished(process) == -signal.SIGKILL

    process, ranks = begun()
    os.kill(process.pid, signal.SIGKILL)
    await_that(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks))

    train(spec, folder, images)
    assert said(folder).read_text().count("resuming") == 4
    assert not work.exists()
    train(spec, tmp_path / "whole/seed0", images)
    assert_same(folder, tmp_path / "whole/seed0")
    for name in ("weights.safetensors", "best.safetensors"):
        assert_identical(load_weights(folder / name), load_weights(tmp_path / "whole/seed0" / name))


def test_memory_of_powersgd_goes_on_through_other_buckets(images, tmp_path):
    """It begins with step 3, in buckets that were formed anew; a resumed run has others in its first step."""
    spec = small_spec("vit", train={"epochs": 5}, exchange={"method": "powersgd", "matrix_rank": 2, "bucket_mb": 0.005})
    folder = tmp_path / "broken/seed0"
    process = start(spec, folder, images)
    await_that(lambda: steps_in(folder) > 5)
    os.kill(process.pid, signal.SIGTERM)
    assert finished(process) == 128 + signal.SIGTERM
    assert any("q/" in name for path in (folder / "work").glob("exchange-*") for name in load_weights(path))
    train(spec, folder, images)
    assert "resuming" in said(folder).read_text()
    train(spec, tmp_path / "whole/seed0", images)
    assert_same(folder, tmp_path / "whole/seed0")


def test_another_number_of_processes_is_refused(images):
    spec = small_spec("vit", exchange={"ranks": 3})
    with pytest.raises(
        UserError, match=r"exchange\.ranks is 3, but this is a group of 2; .*torchrun --nproc-per-node 3"
    ):
        assemble(spec, images, Ranks(0, 2))


@pytest.mark.parametrize(
    ("method", "number", "what"),
    [("allreduce", signal.SIGSTOP, "hangs, and was killed"), ("powersgd", signal.SIGKILL, "was ended by SIGKILL")],
)
def test_a_rank_that_is_lost_with_a_hook_of_pytorch_is_named(method, number, what, images, tmp_path):
    spec = small_spec("vit", train={"epochs": 1000}, exchange={"method": method, "timeout_seconds": 2})
    folder = tmp_path / "lost/seed0"
    process = start(spec, folder, images)
    await_that(lambda: steps_in(folder) > 4)
    os.kill(children(process.pid)[1], number)
    assert finished(process, 60) == 2
    assert re.search(rf"step \d+: rank 1 of 2 {what}", said(folder).read_text())
