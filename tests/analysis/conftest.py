"""A finished study, aggregated once for all tests that only read it."""

from pathlib import Path

import pytest
from fake_runs import Fake, aggregated


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default study, small: three tasks, five arms, no effect but the scale of the gradient."""
    return aggregated(tmp_path_factory.mktemp("finished"), Fake(steps=120))


@pytest.fixture
def aggregate_fake(tmp_path: Path):
    """Aggregate other fake runs in a folder of their own."""
    return lambda fake: aggregated(tmp_path / f"run{len(list(tmp_path.iterdir()))}", fake)
