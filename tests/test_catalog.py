"""Variants by file name, settings by signature, digests by meaning."""

import shutil
import subprocess
import sys

import pytest

from lowbit import catalog
from lowbit.errors import SettingError
from lowbit.spec import RunSpec


def test_available_lists_files_without_private_ones():
    assert set(catalog.available("softmaxes")) >= {"base_e", "base2", "base_b"}
    assert not [n for n in catalog.available("softmaxes") if n.startswith("_")]


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(SettingError, match=r"unknown variant 'base3'.*base2, base_b, base_e; did you mean"):
        catalog.path_of("softmaxes", "base3")


def test_signature_is_read_without_importing():
    code = (
        "import sys; from lowbit import catalog\n"
        "for f in ('softmaxes', 'quantizers', 'surrogates', 'models', 'data'):\n"
        "    for n in catalog.available(f): catalog.settings_model(f, n); catalog.describe(f, n)\n"
        "print('torch' in sys.modules, 'lowbit.softmaxes' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_build_checks_names_and_ranges():
    assert catalog.build("quantizers", {"name": "ternary_absmean", "statistic": "median"}).statistic == "median"
    for wrong in ({"statistic": "mode"}, {"statistics": "mean"}):
        with pytest.raises(ValueError, match="statistic"):
            catalog.build("quantizers", {"name": "ternary_absmean", **wrong})


def test_sources_follow_imports_and_only_imports():
    files = {p.relative_to(catalog.PACKAGE).as_posix() for p in catalog.sources("softmaxes/base2.py")}
    assert files >= {"softmaxes/base2.py", "softmaxes/_base.py", "variant.py"}
    assert "softmaxes/base_e.py" not in files
    assert "train/loop.py" not in files


@pytest.fixture
def package_copy(tmp_path, monkeypatch):
    """A copy of the package whose files may be edited, with the catalog's caches empty before and after."""
    copy = tmp_path / "lowbit"
    shutil.copytree(catalog.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(catalog, "PACKAGE", copy)
    caches = [catalog._tree, catalog._imports, catalog._meaning]
    forget = lambda: [c.cache_clear() for c in caches]  # noqa: E731
    forget()
    yield copy, forget
    forget()


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_digest_ignores_comments_and_docstrings_and_sees_code(package_copy):
    package, forget = package_copy
    before = catalog.digest("softmaxes/base2.py")
    edit(package / "softmaxes/base2.py", '"""Softmax to base 2: s', '"""Softmax to base TWO: s')
    edit(package / "softmaxes/base2.py", "    temperature: Sym", "    # a comment\n    temperature: Sym")
    forget()
    assert catalog.digest("softmaxes/base2.py") == before
    edit(package / "softmaxes/base2.py", "LN2 * LN2", "LN2 * LN2 * 1.0")
    forget()
    assert catalog.digest("softmaxes/base2.py") != before


def test_a_digest_sees_what_is_imported(package_copy):
    package, forget = package_copy
    before = catalog.digest("softmaxes/base2.py"), catalog.digest("quantizers/none.py")
    edit(package / "softmaxes/_base.py", "return 1.0 / self.scale", "return 2.0 / self.scale")
    forget()
    assert catalog.digest("softmaxes/base2.py") != before[0]
    assert catalog.digest("quantizers/none.py") == before[1]


def test_a_run_depends_on_its_own_exchange_alone():
    def files(exchange):
        run = RunSpec(model={"name": "vit"}, exchange=exchange)
        return {str(path.relative_to(catalog.PACKAGE)) for path in catalog.sources(*run.code)}

    alone, topk, hggtopk = files(None), files({"compressor": {"name": "topk"}}), files({})
    assert topk ^ hggtopk == {"compressors/topk.py", "compressors/hggtopk.py"}
    dense = files({"method": "allreduce"})
    assert topk - dense == {"compressors/topk.py", "feedback/residual.py", "schemes/allgather.py"}
    assert "distributed/ddp_hook.py" in dense
    assert not [name for name in alone if name.startswith(("compressors", "distributed", "feedback", "schemes"))]


def test_a_run_in_several_processes_asks_for_all_of_them():
    run = RunSpec(model={"name": "vit"}, exchange={"ranks": 3}, threads=2, device="cuda")
    assert (run.cores, run.gpus) == (6, 3)
    alone = RunSpec(model={"name": "vit"}, threads=2)
    assert (alone.cores, alone.gpus) == (2, 0)
