"""Two processes train as one does, within rounding; only the first writes; what cannot be spread is refused.

Run as a script, this file is one of the two processes.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import VOLATILE, assert_identical, changed, follow, lines_of, small_spec

from lowbit.errors import UserError
from lowbit.train import loop
from lowbit.train.assemble import assemble
from lowbit.train.checkpoint import load_weights, save_weights, weights_sha256
from lowbit.train.parallel import Ranks, join, with_shared_statistics
from lowbit.train.reproducibility import make_deterministic
from lowbit.train.run import Interrupted, execute

DOUBLE = {"precision": "float64", "clip_norm": 1.0, "weight_decay": 0.01}
ACTIVATION = {"activation": {"name": "int8_absmax"}}
SPECS = {
    "vit": small_spec(
        "vit", train=DOUBLE | {"mixup": 0.3, "crop_padding": 1}, quantization=ACTIVATION, loss={"label_smoothing": 0.1}
    ),
    # Shares of 15 sequences are 8 and 7; of the last, single window of a validation pass, the second process gets none.
    "gpt": small_spec(
        "gpt", train=DOUBLE | {"batch_size": 5, "gradient_accumulation_steps": 3}, quantization=ACTIVATION
    ),
    "one at a time": small_spec("gpt", train=DOUBLE | {"batch_size": 12, "validation_batch_size": 1, "epochs": 1}),
}
RUN = changed(SPECS["vit"], record={"save_checkpoints": True, "track_grads": True, "resume_seconds": 0})


def one_of_two(out: Path, folders: dict[str, Path]) -> None:
    """Train every spec, then a run with files that is interrupted once, and note what happened."""
    make_deterministic(1)
    ranks = join("cpu")
    for name, spec in SPECS.items():
        followed = follow(spec, folders[spec.model.name], ranks)
        told = {"records": followed.records, "evaluations": followed.evaluations, "results": followed.results}
        (out / f"{name}{ranks.rank}.json").write_text(json.dumps(told))
        save_weights(followed.run.state.model.state_dict(), out / f"{name}{ranks.rank}.safetensors")

    written: list[str] = []
    sys.addaudithook(lambda event, arguments: note_writing(written, out / "run", event, arguments))
    honest = loop.forward_backward

    def stopped_in_step_5(run, batch):
        if ranks.rank == 1 and run.state.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(run, batch)

    told = {}
    loop.forward_backward = stopped_in_step_5
    try:
        execute(RUN, out / "run", folders["vit"])
    except Interrupted as stop:
        told["status"] = stop.exit_status
    loop.forward_backward = honest
    told["summary"] = execute(RUN, out / "run", folders["vit"])
    told["written"] = written
    (out / f"run{ranks.rank}.json").write_text(json.dumps(told))


def note_writing(written: list[str], folder: Path, event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: remember what is made, changed or removed below a folder."""
    writes = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate"}
    opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if (event in writes or opened) and str(folder) in str(arguments[0]):
        written.append(f"{event} {' '.join(map(str, arguments[:2]))}")


@pytest.fixture(scope="module")
def two(images, text, tmp_path_factory) -> Path:
    """Folder of what two processes noted."""
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    arguments = [sys.executable, __file__, str(out), str(images), str(text)]
    processes = [
        subprocess.Popen(arguments, env={**os.environ, **common, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, error in zip(processes, errors, strict=True):
        assert process.returncode == 0, error
    return out


@pytest.mark.parametrize("name", SPECS)
def test_two_processes_equal_one(name, two, folder_of):
    spec = SPECS[name]
    alone = follow(spec, folder_of[spec.model.name])
    together = json.loads((two / f"{name}0.json").read_text())
    for part in ("records", "evaluations"):
        ours = getattr(alone, part)
        assert len(ours) == len(together[part]) >= (3 if part == "records" else 1)
        for record, other in zip(ours, together[part], strict=True):
            assert record.keys() == other.keys()
            for key in record.keys() - VOLATILE - {"split"}:
                assert other[key] == pytest.approx(record[key], rel=1e-9), (key, record["step"])
    for weights, result in alone.results.items():
        assert together["results"][weights] == pytest.approx(result, rel=1e-9)
    saved = load_weights(two / f"{name}0.safetensors")
    for key, tensor in alone.run.state.model.state_dict().items():
        torch.testing.assert_close(saved[key], tensor, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", SPECS)
def test_both_processes_hold_the_same_weights(name, two):
    assert_identical(*(load_weights(two / f"{name}{rank}.safetensors") for rank in (0, 1)))
    told = [json.loads((two / f"{name}{rank}.json").read_text()) for rank in (0, 1)]
    assert told[0]["results"] == told[1]["results"]


def test_only_the_first_process_writes(two):
    first, second = (json.loads((two / f"run{rank}.json").read_text()) for rank in (0, 1))
    assert any("summary.json" in line for line in first["written"])
    assert second["written"] == []


def test_signal_to_one_process_stops_both_and_the_run_goes_on(two, images, tmp_path):
    told = [json.loads((two / f"run{rank}.json").read_text()) for rank in (0, 1)]
    assert [t["status"] for t in told] == [128 + signal.SIGTERM] * 2
    assert told[0]["summary"]["weights_sha256"] == told[1]["summary"]["weights_sha256"]
    alone = follow(RUN, images)
    lines = [line for line in lines_of(two / "run/events.jsonl") if line["type"] == "step"]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["loss"] for line in lines] == pytest.approx(alone.losses, rel=1e-9)
    assert told[0]["summary"]["weights_sha256"] == weights_sha256(load_weights(two / "vit0.safetensors"))


def test_batch_norm_over_processes_on_the_cpu_is_refused(images):
    with pytest.raises(UserError, match=r"batch norm cannot be spread over 2 processes on the CPU.*; use one process"):
        assemble(small_spec("resnet18"), images, Ranks(0, 2))


def test_batch_norm_over_processes_on_a_gpu_is_shared(images):
    model = assemble(small_spec("resnet18"), images).state.model
    kinds = {type(m) for m in with_shared_statistics(model, Ranks(0, 2), "cuda").modules()}
    assert torch.nn.SyncBatchNorm in kinds
    assert torch.nn.BatchNorm2d not in kinds


@pytest.mark.parametrize(("train", "world"), [({"batch_size": 1}, 2), ({"batch_size": 500}, 97)])
def test_fewer_samples_in_a_step_than_processes_are_refused(train, world, images):
    """A process without samples would have no gradient to contribute."""
    with pytest.raises(UserError, match=f"{world} processes"):
        assemble(small_spec("vit", train=train), images, Ranks(0, world))
    assemble(small_spec("vit", train=train), images, Ranks(0, world - 1))


def test_each_process_takes_its_own_gpu(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 5)
    for variable, value in {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(variable, value)
    assert join("cuda") == Ranks(5, 8)
    assert chosen == [1]
    assert join("cpu") == Ranks(5, 8)
    assert chosen == [1]


def test_shares_cover_everything_once():
    for count in (0, 1, 7, 16):
        positions = [i for rank in range(3) for i in list(range(count))[Ranks(rank, 3).share(count)]]
        assert sorted(positions) == list(range(count))


if __name__ == "__main__":
    one_of_two(Path(sys.argv[1]), {"vit": Path(sys.argv[2]), "gpt": Path(sys.argv[3])})
