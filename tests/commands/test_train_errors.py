"""What `lowbit train` answers to wrong flags: one line, at once."""

import subprocess
import sys

import pytest

from lowbit.__main__ import main

WRONG = {
    "--model resnet": ["resnet18", "vit", "gpt"],
    "--softmax base3": ["standard", "base2", "base_e"],
    "--scheduler cos": ["cosine", "two_stage"],
    "--optimizer adam": ["adamw", "sgd"],
    "--device tpu": ["cpu", "cuda"],
    "--precision half": ["float32", "bfloat16", "float64"],
    "--lr -1": ["train.lr", "greater than 0", "-1"],
    "--lr fast": ["train.lr", "valid number", "'fast'"],
    "--lr nan": ["train.lr", "must be", "nan"],
    "--lr inf": ["train.lr", "finite", "inf"],
    "--epochs inf": ["train.epochs", "finite", "inf"],
    "--temperature inf": ["softmax.temperature", "finite", "'ln2' or '1/ln2'"],
    "--epochs 0": ["train.epochs", "greater than 0"],
    "--batch-size 1.5": ["train.batch_size", "valid integer", "'1.5'"],
    "--batch-size 0": ["train.batch_size", "at least 1"],
    "--seed -1": ["seed", "at least 0"],
    "--label-smoothing 1": ["loss.label_smoothing", "less than 1"],
    "--temperature 0": ["softmax.temperature", "greater than 0", "'ln2' or '1/ln2'", "'0'"],
    "--temperature two": ["softmax.temperature", "valid number", "'ln2' or '1/ln2'", "'two'"],
    "--loss-scale ln3": ["loss.scale", "valid number", "'ln2' or '1/ln2'", "'ln3'"],
    "--model vit --model.depth 0": ["model.depth", "at least 1"],
    "--model resnet18 --model.depth 2": ["model.depth", "unknown key", "name, width"],
    "--softmax base2 --softmax.base 3": ["softmax.base", "unknown key", "name, temperature"],
    "--weight ternary": ["ternary_absmean"],
    "--weight.statistic mode": ["mean", "median"],
    "--depth 3": ["unrecognized arguments: --depth"],
    "--epochs": ["--epochs", "expected one argument"],
    "--batch 3": ["unrecognized arguments: --batch"],
    "--spec nosuch.json": ["nosuch.json", "No such file", "spec.json"],
    "--spec {": ["--spec {", "give the path"],
    '--spec {"seed":1}': ["spec.model", "is required"],
    '--spec {"model":{"name":"vit"},"sed":1}': ["spec.sed", "unknown key", "did you mean 'seed'?"],
    "--spec spec.json --lr 1": ["--spec is complete", "give no other flags"],
    "--spec spec.json --dataset digits": ["--spec is complete"],
}


@pytest.mark.parametrize("flags", WRONG)
def test_wrong_value_is_answered_with_one_line(flags, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["train", *flags.split()])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    output = capsys.readouterr()
    usage, *rest = lines if (lines := output.err.splitlines())[0].startswith("usage: ") else ["", *lines]
    assert len(usage) < 130
    (line,) = rest
    assert "error: " in line
    for wanted in WRONG[flags]:
        assert wanted in line
    assert output.out == ""
    assert list(tmp_path.iterdir()) == []


LIGHT = """
import sys
from lowbit.__main__ import main
for arguments in (["--help"], ["train", "--help"], ["train", "--lr", "-1"], ["train", "--model", "nosuch"]):
    try:
        main(arguments)
    except SystemExit:
        pass
heavy = {"torch", "pandas", "numpy", "matplotlib", "sklearn", "scipy", "snakemake"} & sys.modules.keys()
sys.exit(f"imported: {', '.join(sorted(heavy))}" if heavy else 0)
"""


def test_help_and_wrong_values_are_answered_without_torch():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--gradient-accumulation-steps" in done.stdout
