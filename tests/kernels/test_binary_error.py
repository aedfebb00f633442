"""The error of networks with binary units, against its reference in plain torch."""

import pytest
import torch

from lowbit.kernels import _threads
from lowbit.kernels import binary_error as kernel
from lowbit.kernels.binary_error import binary_error, reference


@pytest.mark.parametrize(("networks", "samples", "units"), [(3, 50, 8), (1, 7, 33), (5, 1, 1)])
def test_as_in_plain_torch(networks, samples, units):
    draws = torch.Generator().manual_seed(units)
    z = torch.randn(networks, samples, units, generator=draws)
    threshold = torch.randn(networks, 1, units, generator=draws)
    threshold[0, 0, 0] = z[0, 0, 0]  # a tie counts
    readout, wanted = torch.randn(units, generator=draws), torch.randn(samples, generator=draws)
    for given in ((z, threshold), (z, threshold[:1]), (z.transpose(0, 1).contiguous().transpose(0, 1), threshold)):
        found = binary_error(*given, readout, wanted)
        torch.testing.assert_close(found, reference(*given, readout, wanted), rtol=1e-5, atol=1e-6)
    strict = ((z > threshold).float() @ readout - wanted).square().mean(-1)
    assert not torch.allclose(binary_error(z, threshold, readout, wanted), strict)


@pytest.mark.parametrize("networks", [1, 2, 7])
def test_the_number_of_threads_changes_nothing(networks, monkeypatch):
    monkeypatch.setattr(_threads, "_LEAST", 100)
    draws = torch.Generator().manual_seed(networks)
    z, threshold = torch.randn(networks, 40, 33, generator=draws), torch.randn(1, 1, 33, generator=draws)
    readout, wanted = torch.randn(33, generator=draws), torch.randn(40, generator=draws)
    add_up, found, taken = kernel._add_up, [], []
    monkeypatch.setattr(kernel, "_add_up", lambda z, *others: (taken.append(len(z)), add_up(z, *others)))
    for threads in (1, 2, 3, 16):
        taken.clear()
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(kernel.binary_error(z, threshold, readout, wanted))
        assert len(taken) == min(threads, networks)
        assert sum(taken) == networks
        assert max(taken) - min(taken) <= 1
    assert all(torch.equal(error, found[0]) for error in found)
    assert kernel.binary_error(z[:0], threshold, readout, wanted).shape == (0,)


def test_other_numbers_take_the_reference():
    z, threshold = torch.randn(2, 4, 3, dtype=torch.float64), torch.zeros(2, 1, 3, dtype=torch.float64)
    readout, wanted = torch.ones(3, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    assert torch.equal(binary_error(z, threshold, readout, wanted), reference(z, threshold, readout, wanted))
