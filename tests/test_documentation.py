"""What the documentation shows runs as it stands, and nothing that it should describe is missing."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from lowbit.analysis import figures

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


@pytest.mark.parametrize("study", ["softmax", "transfer", "estimator", "compressor", "network", "exchange"])
def test_every_figure_has_a_caption_in_the_report(study):
    text = (ROOT / "report/figure.rst").read_text()
    of_study = re.search(rf'"{study}": {{(.+?)\n  }}', text, re.DOTALL).group(1)
    assert set(re.findall(r'^ {4}"(\w+)":', of_study, re.MULTILINE)) == set(figures.available(study))


def test_every_overlay_is_named():
    text = (ROOT / "docs/architecture.md").read_text()
    named = re.search(r"studies/\*\.yaml +overlays: (.+?)\nrules/", text, re.DOTALL).group(1)
    assert sorted(re.split(r",\s+", named)) == sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))
