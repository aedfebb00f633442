"""How a run lies in memory."""

import pytest
import torch
from small_runs import changed, small_spec

from lowbit.train.assemble import assemble


@pytest.mark.parametrize(("width", "wanted"), [(4, torch.contiguous_format), (8, torch.channels_last)])
def test_narrow_networks_do_not_have_channels_last(width, wanted, images):
    """With channels last, oneDNN writes beyond its memory on processors with AVX2 alone."""
    run = assemble(changed(small_spec("resnet18"), model={"name": "resnet18", "width": width}), images)
    kernels = [p for p in run.state.model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    for tensor in (*kernels, run.batches.training(0).inputs):
        assert tensor.is_contiguous(memory_format=wanted)
        assert not (tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last))
