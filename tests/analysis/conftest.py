"""A finished study, aggregated once for all tests that only read it; and figures of few pixels."""

from pathlib import Path

import pytest
from fake_runs import Fake, aggregated

from lowbit.analysis import style


@pytest.fixture(autouse=True)
def few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of figures are small: none of these tests is about their size."""
    monkeypatch.setitem(style._RC, "savefig.dpi", 40)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default study, small: three tasks, five arms, no effect but the scale of the gradient."""
    return aggregated(tmp_path_factory.mktemp("finished"), Fake(steps=120))


@pytest.fixture
def aggregate_fake(tmp_path: Path):
    """Aggregate other fake runs in a folder of their own."""
    return lambda fake: aggregated(tmp_path / f"run{len(list(tmp_path.iterdir()))}", fake)
