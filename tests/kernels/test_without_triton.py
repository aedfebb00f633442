"""What is said where Triton is not installed; all else works there."""

import importlib
import sys

import pytest

import lowbit.kernels.triton
from lowbit.errors import UserError


def test_a_missing_triton_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(UserError, match="pip install triton"):
        importlib.reload(lowbit.kernels.triton)
