"""The error of networks whose last hidden units are binary, in one pass over their pre-activations.

    h_kbj = [z_kbj >= threshold_kj],  error_k = mean_b (sum_j readout_j h_kbj - wanted_b)^2

On a CPU the tensors of activations are large beside the cache, and comparing, multiplying and squaring would each read
them again. Threads take networks, as many as `torch.get_num_threads()` says; each network is summed by one of them, so
that their number changes no bit. For losses alone: nothing has a derivative.
"""

import numpy as np
import torch
from torch import Tensor

from lowbit.kernels._jit import jit_sums
from lowbit.kernels._threads import each, parts


def binary_error(z: Tensor, threshold: Tensor, readout: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error of each network, shape (K,).

    Args:
        z: pre-activations of the last hidden layer, shape (K, B, units).
        threshold: at which a unit is 1 instead of 0, shape (K or 1, 1, units).
        readout: shape (units,).
        wanted: of each sample, shape (B,).
    """
    if z.device.type != "cpu" or z.dtype != torch.float32:
        return reference(z, threshold, readout, wanted)
    error = torch.empty(len(z))
    thresholds = threshold.expand(len(z), 1, -1)[:, 0].contiguous()
    units, limits, weights, goals = (t.contiguous().numpy() for t in (z, thresholds, readout, wanted))

    def work(_: int, start: int, stop: int) -> None:
        _add_up(units[start:stop], limits[start:stop], weights, goals, error.numpy()[start:stop])

    each(work, parts(len(z), z[0].numel() if len(z) else 0))
    return error


def reference(z: Tensor, threshold: Tensor, readout: Tensor, wanted: Tensor) -> Tensor:
    """The same in plain torch."""
    return ((z >= threshold).to(z.dtype) @ readout - wanted).square().mean(-1)


@jit_sums
def _add_up(z, threshold, readout, wanted, error):
    networks, samples, units = z.shape
    for k in range(networks):
        total = np.float64(0)
        for b in range(samples):
            output = np.float32(0)
            for j in range(units):
                output += readout[j] if z[k, b, j] >= threshold[k, j] else np.float32(0)
            total += np.float64(output - wanted[b]) ** 2
        error[k] = total / samples
