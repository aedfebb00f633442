"""Segments on a CPU, and what is known of them without computing; on CUDA devices see test_cuda.py."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lowbit.kernels import segments, selection
from lowbit.kernels.segments import Segments, select_largest_of_each

SIZES, KS = (1, 200, 31), (1, 10, 31)


def histories() -> torch.Tensor:
    return torch.zeros(len(SIZES), selection.SLOTS, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_segment_is_selected_from_by_itself(dtype):
    cut, past, other = Segments(SIZES, KS, torch.device("cpu")), histories(), histories()
    residual, expected = torch.zeros(232, dtype=dtype), torch.zeros(232, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    for step in range(4):
        gradient = torch.randn(232, dtype=dtype, generator=generator)
        if step == 2:
            gradient[100] = float("nan")
        values, indices = select_largest_of_each(gradient, residual, past, cut)
        wanted, places = segments.reference(gradient, expected, other, None, SIZES, KS)
        assert torch.equal(values, wanted)
        assert torch.equal(indices, places)
        assert torch.equal(residual, expected)
        assert past[:, selection.REFUSED].tolist() == [0, float(step == 2), 0]
    assert torch.equal(past[:, selection.THRESHOLD], other[:, selection.THRESHOLD])
    values, _ = select_largest_of_each(None, residual, past, cut)
    assert values.shape == (42,)


def test_gradients_may_lie_apart():
    """Among others, in any order."""
    begins, past, other = (240, 7, 209), histories(), histories()
    cut = Segments(SIZES, KS, torch.device("cpu"), begins)
    residual, expected = torch.zeros(232), torch.zeros(232)
    for seed in range(3):
        bucket = torch.randn(250, generator=torch.Generator().manual_seed(seed))
        bucket[241:] = float("nan")
        values, indices = select_largest_of_each(bucket, residual, past, cut)
        gradient = torch.cat([bucket[begin : begin + size] for begin, size in zip(begins, SIZES, strict=True)])
        wanted, places = segments.reference(gradient, expected, other, None, SIZES, KS)
        assert torch.equal(values, wanted)
        assert torch.equal(indices, places)
        assert torch.equal(residual, expected)
    for wrong in (torch.zeros(240), torch.zeros(500)[::2], torch.zeros(250).double(), torch.zeros(1, 250)):
        with pytest.raises(ValueError, match="segments end at 241: must be"):
            select_largest_of_each(wrong, residual, past, cut)
    with pytest.raises(ValueError, match="contiguous"):
        select_largest_of_each(bucket, torch.zeros(464)[::2], past, cut)


def test_shapes_are_known_without_computing():
    with FakeTensorMode():
        cut = Segments(SIZES, KS, torch.device("cpu"))
        residual, past = torch.empty(232), torch.empty(3, selection.SLOTS, dtype=torch.float64)
        values, indices = select_largest_of_each(None, residual, past, cut)
        assert (values.shape, values.dtype) == ((42,), torch.float32)
        assert (indices.shape, indices.dtype) == ((42,), torch.int32)


@pytest.mark.parametrize(("sizes", "ks"), [((), ()), ((5, 5), (1,)), ((5,), (6,)), ((5, 0), (1, 0))])
def test_every_segment_has_something_to_select(sizes, ks):
    with pytest.raises(ValueError, match="must be"):
        Segments(sizes, ks, torch.device("cpu"))


@pytest.mark.parametrize("begins", [(0, 1), (0, -1, 5)])
def test_every_gradient_begins_somewhere(begins):
    with pytest.raises(ValueError, match="must be one each, at least 0"):
        Segments(SIZES, KS, torch.device("cpu"), begins)


@pytest.mark.parametrize(
    ("residual", "past", "words"),
    [
        (torch.zeros(231), histories(), "segments have 232"),
        (torch.zeros(232), histories()[:2], r"must be float64 of shape \(3, 7\)"),
        (torch.zeros(464)[::2], histories(), "contiguous"),
    ],
)
def test_memory_is_what_segments_say(residual, past, words):
    cut = Segments(SIZES, KS, torch.device("cpu"))
    with pytest.raises(ValueError, match=words):
        select_largest_of_each(None, residual, past, cut)


def test_segments_of_a_cpu_are_refused_on_a_device():
    with pytest.raises(ValueError, match="make Segments for that device"):
        segments._on_cuda(None, torch.zeros(232), histories(), None, SIZES, KS, None, False)
