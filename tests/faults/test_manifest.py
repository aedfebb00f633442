"""A damaged, lost or foreign result is noticed, and a killed writer leaves no partial one."""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lowbit import manifest
from lowbit.atomic import replacing, write_text
from lowbit.commands import verify
from lowbit.data._base import ImageDataset, Raw


@pytest.fixture
def run_folder(tmp_path):
    """A finished run under a results folder."""
    folder = tmp_path / "results" / "softmax" / "digits" / "base2" / "seed0"
    write_text(folder / "spec.json", '{"seed": 0}\n')
    write_text(folder / "events.jsonl", '{"loss": 2.3}\n' * 100)
    write_text(folder / "checkpoints" / "best.safetensors", "weights")
    write_text(folder / "work" / "last.safetensors", "state")
    manifest.write(folder)
    return folder


def faults(root: Path) -> list[tuple[str, str]]:
    return [(fault.kind, fault.path.name) for fault in manifest.verify(root).faults]


def keep_time(path: Path, content: bytes) -> None:
    """Change a file behind Snakemake's back, which looks at the time only."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_untouched_run_has_no_fault(run_folder, tmp_path):
    report = manifest.verify(tmp_path / "results")
    assert (report.folders, report.files, report.faults) == (1, 3, [])


def test_a_manifest_lists_all_but_scratch_in_a_stable_order(run_folder):
    before = (run_folder / "manifest.json").read_bytes()
    listed = json.loads(before)["files"]
    assert list(listed) == ["checkpoints/best.safetensors", "events.jsonl", "spec.json"]
    assert listed["spec.json"]["bytes"] == 12
    manifest.write(run_folder)
    assert (run_folder / "manifest.json").read_bytes() == before


def test_a_truncated_file_of_the_same_time_is_found(run_folder, tmp_path):
    path = run_folder / "events.jsonl"
    keep_time(path, path.read_bytes()[:700])
    (fault,) = manifest.verify(tmp_path).faults
    assert (fault.kind, fault.path, fault.detail) == ("altered", path, "700 bytes instead of 1400")


@pytest.mark.parametrize("place", [0, 699, 1399])
def test_a_flipped_bit_is_found(run_folder, tmp_path, place):
    path = run_folder / "events.jsonl"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    keep_time(path, bytes(content))
    assert faults(tmp_path) == [("altered", "events.jsonl")]


def test_removed_and_added_files_are_found(run_folder, tmp_path):
    (run_folder / "spec.json").unlink()
    write_text(run_folder / "checkpoints" / "other.txt", "")
    write_text(run_folder / "work" / "more", "")
    assert faults(tmp_path) == [("missing", "spec.json"), ("unlisted", "other.txt")]


@pytest.mark.parametrize("content", ["", '{"files": {', "[]", '{"files": {"spec.json": 3}}', '{"metrics": 1}'])
def test_a_damaged_manifest_is_a_fault(run_folder, tmp_path, content):
    (run_folder / "manifest.json").write_text(content)
    assert faults(tmp_path) == [("unreadable", "manifest.json")]


class Dots(ImageDataset):
    def arrays(self, root: Path | None, folder: Path) -> Raw:
        split = {"images": np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4), "labels": np.arange(2)}
        splits = dict.fromkeys(("train", "validation", "test"), split)
        return Raw(splits, source="test", details={"classes": ["a", "b"]}, files={"notes.txt": b"dots"})


def test_prepared_datasets_are_verified_too(tmp_path):
    folder = tmp_path / "results" / "data" / "dots"
    Dots().prepare(folder)
    report = manifest.verify(tmp_path)
    assert (report.folders, report.files, report.faults) == (1, 7, [])
    keep_time(folder / "test_images.npy", (folder / "test_images.npy").read_bytes()[:-1] + b"\xff")
    (folder / "train_labels.npy").unlink()
    (folder / "notes.txt").write_text("Dots")
    assert faults(tmp_path) == [
        ("altered", "notes.txt"),
        ("altered", "test_images.npy"),
        ("missing", "train_labels.npy"),
    ]


WRITER = """
import os, signal, sys
from pathlib import Path
from lowbit.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("before", [None, "whole"])
def test_a_killed_writer_changes_nothing(tmp_path, before):
    folder = tmp_path / "run"
    path = folder / "summary.json"
    if before:
        write_text(path, before)
    killed = subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (path.read_text() if path.exists() else None) == before
    # What it left is hidden, is told from results, and goes with the next manifest.
    assert len(list(folder.glob(".summary.partial-*.json"))) == 1
    manifest.write(folder)
    assert manifest.verify(tmp_path).faults == []
    assert [p.name for p in sorted(folder.iterdir())] == ["manifest.json"] + (["summary.json"] if before else [])


def test_a_writer_killed_after_the_manifest_is_reported(run_folder, tmp_path):
    subprocess.run([sys.executable, "-c", WRITER, str(run_folder / "spec.json")], check=False)
    (fault,) = manifest.verify(tmp_path).faults
    assert (fault.kind, fault.detail) == ("unlisted", "left by a writer that was killed")


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_path_keeps_the_suffix(tmp_path):
    with replacing(tmp_path / "new" / "array.npy") as temporary:
        np.save(temporary, np.arange(3))
    assert np.load(tmp_path / "new" / "array.npy").tolist() == [0, 1, 2]


def test_outputs_have_the_usual_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_text(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def status_of(folder: Path) -> int:
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    return verify.run(parser.parse_args([str(folder)]))


def test_the_command_tells_sound_from_faulty_from_nothing(run_folder, tmp_path, capsys):
    assert status_of(tmp_path / "results") == 0
    assert capsys.readouterr().out == "files 3, manifests 1, faults 0\n"
    (run_folder / "spec.json").unlink()
    assert status_of(tmp_path / "results") == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"missing    {run_folder / 'spec.json'}",
        "files 3, manifests 1, faults 1",
        f"To make the faulty folders anew: snakemake --forcerun {run_folder / 'manifest.json'}",
    ]
    assert err == ""
    assert status_of(tmp_path / "nowhere") == 2
    assert "run snakemake first" in capsys.readouterr().err
