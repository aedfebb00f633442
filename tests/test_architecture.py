"""Who may import whom, how large a file may be, and what no file may contain."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from lowbit.catalog import PACKAGE

FILES = sorted(PACKAGE.rglob("*.py"))
LEVELS = (
    ("errors", "atomic", "variant", "compressor_names"),
    ("catalog", "processes", "gpu_slots"),
    (
        *("spec", "probe_spec", "compression_spec", "exchange_spec", "network_spec", "timing_spec"),
        *("manifest", "pieces"),
        *("config", "config_arms", "config_studies", "config_probes", "config_compression", "config_networks"),
        *("config_errors", "config_files", "config_exchange", "cost", "cost_assumptions"),
    ),
    ("kernels",),
    ("feedback", "softmaxes", "quantizers", "surrogates"),
    ("compressors", "layers", "data"),
    ("schemes",),
    ("distributed", "models", "estimators"),
    ("problems",),
    ("analysis", "train", "probe"),
    ("benchmarks",),
    ("compression",),
    ("commands", "__main__", "__init__"),
)
CONFIG = LEVELS[2]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
# A quantizer has its backward from a surrogate; manifests tell prepared datasets apart; the rest is one concern.
NEIGHBOURS = {("quantizers", "surrogates"), ("manifest", "data")}
NEIGHBOURS |= {(a, b) for a in LEVELS[2] for b in LEVELS[2]} | {(a, b) for a in LEVELS[0] for b in LEVELS[0]}
VARIANT_FAMILIES = (
    *("softmaxes", "quantizers", "surrogates", "compressors", "feedback", "schemes"),
    *("models", "data", "estimators", "problems"),
)


def part(path: Path) -> str:
    """The family or top-level module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Dotted names that a file imports from anywhere."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def broken_rules(path: Path, imported: list[str]) -> list[str]:
    """The rules that a file's imports break, in words."""
    own, faults = part(path), []
    for name in imported:
        root, *rest = name.split(".")
        if root != "lowbit" or not rest:
            continue
        other = rest[0]
        if other in LEVEL and LEVEL[other] > LEVEL[own]:
            faults.append(f"{own} must not import {name}: it stands higher")
        elif other != own and other in LEVEL and LEVEL[other] == LEVEL[own] and (own, other) not in NEIGHBOURS:
            faults.append(f"{own} must not import its neighbour {name}")
        elif other == own and own in VARIANT_FAMILIES and path.stem[0] != "_" and not rest[1].startswith("_"):
            faults.append(f"variant {path.stem} must not import its sibling {name}; share through _base.py")
    return faults


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    assert not broken_rules(path, imports(path))


def test_a_broken_rule_is_found():
    path = PACKAGE / "softmaxes/base2.py"
    assert broken_rules(path, ["lowbit.train.loop.train"])
    assert broken_rules(path, ["lowbit.quantizers.none.NoQuantizer"])
    assert broken_rules(path, ["lowbit.softmaxes.base_e.BaseE"])
    assert not broken_rules(path, ["lowbit.softmaxes._base.ExponentialSoftmax", "torch.nn"])


@pytest.mark.parametrize(
    "name", ["analysis", "catalog", "spec", "config", "cost", "variant", "gpu_slots", "processes", "manifest"]
)
def test_no_torch_where_it_would_cost_seconds(name):
    for path in FILES:
        if part(path) == name:
            assert not [i for i in imports(path) if i.split(".")[0] in ("torch", "torchvision")], path


def test_compilers_of_kernels_stay_among_the_kernels():
    for path in FILES:
        if part(path) != "kernels":
            assert not [i for i in imports(path) if i.split(".")[0] in ("numba", "llvmlite", "triton")], path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_small_named_by_content_and_documented(path):
    text = path.read_text()
    assert text.count("\n") <= 250, "split by content"
    assert path.stem not in ("utils", "util", "helpers", "misc", "common"), "name the content"
    assert ast.get_docstring(ast.parse(text)), "say in the first line what the file is"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_definitions_have_docstrings(path):
    tree = ast.parse(path.read_text())
    nodes = [*tree.body, *(n for c in tree.body if isinstance(c, ast.ClassDef) and c.name[0] != "_" for n in c.body)]
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            assert ast.get_docstring(node) or _implements_documented(node), f"{path}: {node.name}"


def _implements_documented(node) -> bool:
    """Methods whose base class documents them."""
    return node.name in ("handle", "close", "forward", "arrays")


def test_nothing_is_unpickled():
    pattern = re.compile(r"pickle\.load|torch\.load\(|allow_pickle\s*=\s*True|weights_only\s*=\s*False|yaml\.load\(")
    assert not [f"{p}: {m.group()}" for p in FILES for m in [pattern.search(p.read_text())] if m]


def test_git_ignores_no_file_of_the_project():
    root = PACKAGE.parent
    files = [p for folder in ("lowbit", "tests", "rules", "studies") for p in (root / folder).rglob("*") if p.is_file()]
    names = "\n".join(str(p.relative_to(root)) for p in files if "__pycache__" not in p.parts)
    ignored = subprocess.run(["git", "check-ignore", "--stdin"], cwd=root, input=names, capture_output=True, text=True)
    assert ignored.stdout == "", "a clone would lack these files"
