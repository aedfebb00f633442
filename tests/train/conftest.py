"""Prepared folders for all tests of training, and the settings that make their runs repeatable."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from interruptions import WHOLE
from small_data import SMALL_TEXT, Patterns

from lowbit.train.reproducibility import make_deterministic
from lowbit.train.run import execute


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """What `execute` sets at the start of a run; afterwards PyTorch is as other tests expect it."""
    make_deterministic(1)
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared folder of 3x8x8 images in four classes."""
    folder = tmp_path_factory.mktemp("data") / "images"
    Patterns().prepare(folder)
    return folder


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared folder of Markov text with twelve tokens."""
    folder = tmp_path_factory.mktemp("data") / "text"
    SMALL_TEXT.prepare(folder)
    return folder


@pytest.fixture(scope="session")
def folder_of(images: Path, text: Path) -> dict[str, Path]:
    """Prepared folder by model name."""
    return {"resnet18": images, "vit": images, "gpt": text}


@pytest.fixture(scope="session")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run WHOLE, never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "seed0"
    execute(WHOLE, folder, images)
    return folder
