"""The layers of a bucket in one call, as on a GPU, against a call for each: what is applied, and what is kept."""

import pytest
import ranks
import torch
from given_gradients import Given, applied, drawn
from torch.nn.parallel import DistributedDataParallel

from lowbit.distributed import register_sparse_hook
from lowbit.kernels import segments


def exchanged(rank: int, world: int, bucket_cap_mb: float) -> tuple[list, dict, list[int]]:
    """Gradients and states with a call for each layer, and with one for each bucket; segments of these calls."""
    found, cuts, select = [], [], segments.select_largest_of_each

    def selected(gradient, residual, histories, cut):
        cuts.append(len(cut.sizes))
        return select(gradient, residual, histories, cut)

    for whole in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segments, "one_launch", lambda gradient, whole=whole: whole)
            patch.setattr(segments, "select_largest_of_each", selected)
            model = DistributedDataParallel(Given(), bucket_cap_mb=bucket_cap_mb)
            hook = register_sparse_hook(model, density=0.05)
            steps = []
            for step in range(4):
                model(drawn(rank, step)).backward()
                steps.append(applied(model))
            found.append((steps, hook.state_dict()))
            hook.close()
    return *found, cuts


@pytest.mark.parametrize(("bucket_cap_mb", "expected_cuts"), [(25, [3] * 4), (0.003, [3, 2, 2, 2])])
def test_a_bucket_of_the_hook_is_one_call(bucket_cap_mb, expected_cuts):
    """Small buckets are formed anew after the first backward pass."""
    for (steps, state), (expected, kept), cuts in ranks.run(exchanged, 2, bucket_cap_mb):
        assert cuts == expected_cuts
        for one, other in zip(steps, expected, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)
        assert state.keys() == kept.keys()
        assert all(torch.equal(state[key], kept[key]) for key in state)
