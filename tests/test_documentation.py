"""Code that the documentation shows runs as it stands."""

import re
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).parent.parent


def test_ten_lines_measure_any_network(capsys):
    code = re.search(r"```python\n(.+?)```", (ROOT / "docs/estimators.md").read_text(), re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 10
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("hidden", nn.Linear(6, 8))
    model.add_module("act", nn.Tanh())
    model.add_module("fc", nn.Linear(8, 3))
    exec(code, {"model": model, "images": torch.randn(32, 6), "labels": torch.randint(0, 3, (32,))})
    printed = capsys.readouterr().out
    assert float(re.search(r"'cosine': ([\d.]+)", printed).group(1)) > 0.999  # nothing is rounded: CDG is the gradient
    assert float(printed.splitlines()[-1]) > 0
