"""Indices beyond what a float32 can count."""

import pytest
import torch

from lowbit.compressors import make


@pytest.mark.parametrize("name", ["topk", "hggtopk", "redsynctrim"])
def test_the_entry_after_two_to_the_24_is_itself(name):
    gradient, places = torch.zeros(2**24 + 2), torch.tensor([0, 2**24 - 1, 2**24, 2**24 + 1])
    gradient[places] = torch.tensor([1.0, -2.0, 3.0, -4.0])
    sparse = make(name).send(gradient, "embedding.weight", 4 / len(gradient))
    order = sparse.indices.argsort()
    assert sparse.indices[order].tolist() == places.tolist()
    assert sparse.values[order].tolist() == [1.0, -2.0, 3.0, -4.0]
