"""The prepare command: what it prints, where it writes, and how it says no."""

import json

import pytest
from tiny_sources import write_npz

from lowbit.__main__ import main


def prepare(tmp_path, settings, *more: str, name: str = "mine") -> int:
    text = settings if isinstance(settings, str) else json.dumps(settings)
    where = ["--folder", str(tmp_path / "out" / name), "--data-root", str(tmp_path)]
    return main(["prepare", "--dataset", name, "--settings", text, *where, *more])


def test_images_are_described(tmp_path, capsys):
    write_npz(tmp_path / "tiny.npz", extra=[1])
    assert prepare(tmp_path, {"name": "npz", "file": "tiny.npz", "validation_fraction": 0.25}) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"mine: {tmp_path / 'out' / 'mine'}"
    assert [line.split(None, 1) for line in lines[1:6]] == [
        ["source", "npz file tiny.npz"],
        ["train", "images 60x3x6x5 uint8, labels 60 int64"],
        ["validation", "images 20x3x6x5 uint8, labels 20 int64"],
        ["test", "images 20x3x6x5 uint8, labels 20 int64"],
        ["classes", "4"],
    ]
    assert lines[-1].split() == ["ignored", "extra"]
    assert (tmp_path / "out" / "mine" / "manifest.json").exists()


def test_text_is_described(tmp_path, capsys):
    (tmp_path / "all.txt").write_text("|".join(f"story {n}" for n in range(30)))
    assert prepare(tmp_path, {"name": "text", "files": ["all.txt"], "separator": "|"}) == 0
    out = capsys.readouterr().out
    assert "documents   train 24, validation 3, test 3" in out
    assert "tokens      bytes, vocabulary 256" in out


def test_a_variant_needs_no_settings_and_a_default_place(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "--dataset", "digits"]) == 0
    assert (tmp_path / "results/data/digits/manifest.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{", "--settings: not JSON"),
        ("3", "--settings: name: 3 must be one of cifar10,"),
        ({"file": "tiny.npz"}, "--settings: name: None must be one of cifar10,"),
        ({"name": "cifr10"}, "did you mean 'cifar10'?"),
        ({"name": "npz"}, "--settings.file: is required"),
        ({"name": "npz", "file": "a", "fils": "b"}, "--settings.fils: unknown key; must be one of name, file,"),
        ({"name": "digits", "validation_fraction": 1}, "--settings.validation_fraction: must be less than 1.0, got 1"),
        ({"name": "npz", "file": "absent.npz"}, "absent.npz: [Errno 2] No such file"),
    ],
)
def test_faults_are_one_line_on_stderr_and_status_2(settings, message, tmp_path, capsys):
    assert prepare(tmp_path, settings) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))
