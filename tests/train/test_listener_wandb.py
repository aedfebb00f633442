"""Weights & Biases offline: the real library, its files read back, no network and no process left behind."""

import json
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lowbit.errors import UserError
from lowbit.train.events import Evaluated, RunFailed, RunFinished, RunStarted, StepsFinished
from lowbit.train.listeners.wandb import WeightsAndBiases

CONFIG = {"train": {"lr": 0.5}, "seed": 0}
HEADER_BYTES = 7  # of a .wandb file, and of each record in it
BLOCK_BYTES = 32768


def make_spec(path: str = "softmax/digits/base2/seed0", **changes) -> SimpleNamespace:
    return SimpleNamespace(path=path, device="cpu", model_dump=lambda mode: CONFIG | changes)


SPEC = make_spec()
STARTED = RunStarted(spec=SPEC, steps=2, first_step=0, metric="accuracy", unit="samples")
EVENTS = [
    STARTED,
    StepsFinished(records=({"step": 1, "epoch": 0.5, "loss": 2.0, "accuracy": 0.25, "lr": 0.5},)),
    StepsFinished(records=({"step": 2, "epoch": 1.0, "loss": 1.0, "accuracy": 0.5, "lr": 0.5, "flip_rate": 0.125},)),
    Evaluated(record={"step": 2, "epoch": 1.0, "split": "validation", "loss": 1.5, "accuracy": 0.375}, best=True),
    RunFinished(state=SimpleNamespace(step=2), results={"best": {"loss": 1.25, "accuracy": 0.625}}),
]


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    library = pytest.importorskip("wandb", reason="needs the extra lowbit[wandb]")
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    library.teardown()
    yield library
    library.teardown()


def services() -> list[str]:
    psutil = pytest.importorskip("psutil", reason="needs the extra lowbit[test]")
    return [child.name() for child in psutil.Process().children(recursive=True) if "wandb" in child.name()]


def records_of(path: Path) -> list:
    """Records of a .wandb file: protobuf messages in the framing of LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    content = path.read_bytes()
    position, pieces, records = HEADER_BYTES, b"", []
    while position < len(content):
        left_in_block = BLOCK_BYTES - position % BLOCK_BYTES
        if left_in_block < HEADER_BYTES:
            position += left_in_block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += HEADER_BYTES + length
        pieces += content[position - length : position]
        if kind in (1, 4):  # a whole record, or the end of one in pieces
            records.append(Record.FromString(pieces))
            pieces = b""
    return records


def play(folder: Path, events: list, spec: SimpleNamespace = SPEC) -> None:
    listener = WeightsAndBiases(folder, spec)
    assert listener.optional
    for event in events:
        listener.handle(event)
    listener.close()


def read(folder: Path) -> list:
    """Records of the one offline run in a folder."""
    (path,) = folder.rglob("*.wandb")
    assert path.parent.name.startswith("offline-run-")
    assert path.parent.parent == folder / "wandb"
    return records_of(path)


def of_kind(records: list, kind: str) -> list:
    return [getattr(r, kind) for r in records if r.WhichOneof("record_type") == kind]


def test_offline_run_holds_the_numbers_the_settings_and_the_end(wandb, tmp_path, capfd):
    play(tmp_path / "run", EVENTS)
    records = read(tmp_path / "run")
    (run,) = of_kind(records, "run")
    assert (run.project, run.display_name) == ("lowbit", SPEC.path)
    config = {entry.key: json.loads(entry.value_json) for entry in run.config.update if entry.key != "_wandb"}
    assert config == CONFIG
    rows = {}
    for history in of_kind(records, "history"):
        values = {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in history.item}
        rows[history.step.num] = {key: value for key, value in values.items() if key[0] != "_"}
    assert rows[1] == {"train/loss": 2.0, "train/accuracy": 0.25, "lr": 0.5}
    assert rows[2] == {
        "train/loss": 1.0,
        "train/accuracy": 0.5,
        "lr": 0.5,
        "ternary/flip_rate": 0.125,
        "validation/loss": 1.5,
        "validation/accuracy": 0.375,
        "test/best/loss": 1.25,
        "test/best/accuracy": 0.625,
    }
    assert [end.exit_code for end in of_kind(records, "exit")] == [0]
    assert capfd.readouterr() == ("", "")
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()], "the run folder leads outside"
    assert not services(), "wandb-core outlives its run"


def test_run_that_fails_says_so(wandb, tmp_path):
    play(tmp_path, [*EVENTS[:2], RunFailed(step=2, loss=float("nan"))])
    records = read(tmp_path)
    assert [end.exit_code for end in of_kind(records, "exit")] == [1]


def test_identity_is_kept_by_a_resumed_run_and_changed_by_other_settings(wandb, tmp_path):
    def identity(name: str, spec: SimpleNamespace, first_step: int = 0) -> str:
        started = RunStarted(spec=spec, steps=2, first_step=first_step, metric="accuracy", unit="samples")
        play(tmp_path / name, [started], spec)
        (run,) = of_kind(read(tmp_path / name), "run")
        return run.run_id

    whole = identity("whole", SPEC)
    assert "base2" in whole
    assert identity("resumed", SPEC, first_step=1) == whole
    assert identity("other", make_spec(batch_size=32)) != whole
    assert len(identity("long", make_spec(path="s/t/" + "arm-" * 60 + "/seed0"))) < 128


def test_run_of_the_caller_stays_open(wandb, tmp_path):
    own = wandb.init(project="own", dir=str(tmp_path), mode="offline", settings={"silent": True, "console": "off"})
    play(tmp_path / "run", EVENTS)
    assert wandb.run is own
    own.log({"still": "open"})
    own.finish()


@pytest.mark.parametrize(
    ("mode", "key", "expected"), [(None, None, "offline"), (None, "0123456789" * 4, None), ("online", None, None)]
)
def test_mode_is_offline_unless_chosen_or_logged_in(wandb, tmp_path, monkeypatch, mode, key, expected):
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    given = {}
    monkeypatch.setattr(wandb, "init", lambda **settings: given.update(settings))
    WeightsAndBiases(tmp_path, SPEC).handle(STARTED)
    assert given["mode"] == expected
    assert given["resume"] == "allow"


def test_missing_wandb_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'lowbit\[wandb\]'"):
        WeightsAndBiases(tmp_path, SPEC)
