"""Prepared folders for all tests of training, and the settings that make their runs repeatable."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_data import SMALL_TEXT, Patterns

from lowbit.train.reproducibility import make_deterministic


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """What `execute` sets at the start of a run, undone afterwards."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filling, default = torch.utils.deterministic.fill_uninitialized_memory, torch.get_default_dtype()
    make_deterministic(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
    torch.set_flush_denormal(False)
    torch.utils.deterministic.fill_uninitialized_memory = filling
    torch.set_default_dtype(default)


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
