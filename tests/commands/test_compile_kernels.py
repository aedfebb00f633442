"""`lowbit compile-kernels`: what it finds, what it compiles, and what it calls a failure. No GPU is needed."""

import pytest

from lowbit.__main__ import main
from lowbit.commands import compile_kernels
from lowbit.kernels.triton import compilation
from lowbit.kernels.triton.compilation import Compiled


@pytest.fixture(scope="module")
def found():
    return compilation.signatures()


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def every(found, name: str, *words: str):
    return [s for s in found if s.name == name and all(word in str(s) for word in words)]


def one(found, name: str, *words: str):
    return every(found, name, *words)[0]


def test_every_kernel_and_every_type_of_gradient_is_found(found):
    assert {s.name for s in found} == {"largest", "guess", "collect", "histogram", "pick", "count", "scan", "emit"}
    for name in ("largest", "collect", "histogram"):
        types = {dict(zip(s.kernel.arg_names, s.types, strict=False))["gradient"] for s in found if s.name == name}
        assert types >= {f"*{kind}{place}" for kind in ("fp32", "bf16", "fp16") for place in (":16", "")}
        assert any("segments" in str(s) for s in found if s.name == name)
    for words in (["bits from 20", "finite"], ["one entry"]):
        untouched = {
            dict(zip(s.kernel.arg_names, s.types, strict=False))["gradient"] for s in every(found, "histogram", *words)
        }
        assert untouched >= {"None", "*fp32:16"}
    assert len({str(s) for s in found}) == len(found), "names that do not tell kernels apart"


@pytest.mark.parametrize(
    ("name", "words", "target"),
    [
        ("collect", ["bf16", "segments"], "sm_80"),
        ("histogram", ["fp32", "bits from 20", "vectors"], "sm_90"),
        ("emit", [], "sm_100"),
        ("collect", ["fp32", "unaligned", "one entry"], "sm_90"),
    ],
)
def test_a_kernel_compiles_without_spills(found, name, words, target):
    compiled = compilation.compile_one(one(found, name, *words), target)
    assert compiled.error == ""
    assert 0 < compiled.registers <= 255
    assert compiled.stack_bytes == 0
    assert compiled.shared_bytes > 0


def test_spills_and_errors_are_seen(found):
    signature = one(found, "collect", "fp32")
    squeezed = signature._replace(settings=(*signature.settings, ("maxnreg", 32)))
    assert compilation.compile_one(squeezed, "sm_90").stack_bytes > 0
    wrong = signature._replace(types=("*fp32:16", "i32", *signature.types[2:]))
    assert compilation.compile_one(wrong, "sm_90").error


def test_an_interpreter_cannot_compile(monkeypatch, capsys):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert main(["compile-kernels"]) == 2
    assert "unset it" in capsys.readouterr().err


def test_no_kernels_are_no_success(monkeypatch):
    monkeypatch.setattr(compile_kernels, "_print_traffic", lambda: None)
    monkeypatch.setattr(compilation, "compile_all", lambda targets, processes: iter(()))
    assert main(["compile-kernels"]) == 1


def test_the_command_fails_for_a_spill_or_an_error(found, monkeypatch, capsys):
    monkeypatch.setattr(compile_kernels, "_print_traffic", lambda: None)
    good = Compiled(found[0], "sm_90", 32, 0, 0)
    for bad, status in ((None, 0), (good._replace(stack_bytes=8), 1), (good._replace(error="CompilationError: no"), 1)):
        results = [good, *([bad] if bad else [])]
        monkeypatch.setattr(compilation, "compile_all", lambda targets, processes, r=results: iter(r))
        assert main(["compile-kernels", "--targets", "sm_90"]) == status
        printed = capsys.readouterr().out
        assert f"{len(results)} compiled, {status} of them" in printed
        assert bad is None or "spills" in printed or "CompilationError" in printed
