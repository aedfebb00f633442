"""What every compressor owes, for every variant under its settings."""

import numpy as np
import pytest
import torch
from checks import compressors as checks
from checks.settings import label, variations
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lowbit import catalog
from lowbit.compressors._base import Compressor
from lowbit.compressors._session import GradientCompressor
from lowbit.errors import NonFiniteError
from lowbit.feedback.residual import Residual

CHOSEN = {  # of the many combinations of hggtopk's settings, those that change the way and not only a number
    "hggtopk": [
        *({"name": "hggtopk", "bins": b} for b in ("log", "log_relative", "float_bits")),
        {"name": "hggtopk", "history": False},
        {"name": "hggtopk", "num_bins": 3, "gamma": 0.5},
        *({"name": "hggtopk", "exact": False, "bins": b} for b in ("log", "log_relative", "float_bits")),
        {"name": "hggtopk", "exact": False, "history": False, "beta": 0.5},
    ]
}


def changes_the_way(settings: dict) -> bool:
    """Whether at most one setting is not its default, and that is no number."""
    given = [value for key, value in settings.items() if key != "name"]
    return len(given) <= 1 and all(isinstance(value, str | bool) for value in given)


MODES = [
    settings
    for name in catalog.available("compressors")
    for settings in CHOSEN.get(name, filter(changes_the_way, variations("compressors", name)))
]


@pytest.fixture(scope="module", params=MODES, ids=label)
def compressor(request) -> Compressor:
    return catalog.build("compressors", request.param)


def test_what_is_sent_are_entries_of_the_vector(compressor):
    checks.check_form_of_what_is_sent(compressor)


def test_the_largest_are_sent_where_that_is_promised(compressor):
    if checks.sends_largest(compressor):
        checks.check_largest(compressor)
    else:
        assert compressor.select(checks.draw(1000), 50)[0].numel() > 0


def test_nothing_is_lost(compressor):
    checks.check_nothing_is_lost(compressor)


NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.0000001, 1e-45, -1e-38, 1e37]),
    st.floats(-(2.0**100), 2.0**100, width=32),
)
"""No sum of a few of them is infinite."""


@given(data=st.data(), size=st.integers(1, 60))
def test_nothing_is_lost_of_any_numbers(compressor, data, size):
    vectors = arrays.arrays(np.float32, size, elements=NUMBERS)
    steps = data.draw(st.lists(st.tuples(vectors, st.floats(1e-9, 1)), min_size=1, max_size=4))
    checks.check_steps(compressor, [(torch.from_numpy(x), density) for x, density in steps])


def test_all_that_was_sent_adds_up(compressor):
    checks.check_telescoping(compressor)


def test_shapes_strides_and_dtypes_do_not_matter(compressor):
    checks.check_shapes_and_dtypes(compressor)


def test_density_one_leaves_nothing(compressor):
    checks.check_everything(compressor)


def test_powers_of_two_and_signs_do_not_matter(compressor):
    if hasattr(compressor, "bin_size") or checks.same_indices(compressor, checks.draw(500), checks.draw(500)):
        checks.check_scale_and_sign(compressor)


def test_several_at_once_are_one_after_another(compressor):
    checks.check_several_at_once(compressor)


def test_an_error_takes_nothing_from_the_others(compressor):
    checks.check_an_error_takes_nothing(compressor)


def test_ranks_share_indices_exactly_where_that_is_promised(compressor):
    checks.check_shared_indices(compressor)


def test_a_state_goes_on_bit_by_bit(compressor):
    checks.check_state(lambda: GradientCompressor(compressor, Residual()))


def test_jumps_between_steps_do_no_harm(compressor):
    checks.check_history_is_no_burden(compressor)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(compressor, bad):
    session, gradient = GradientCompressor(compressor, Residual()), checks.draw(400)
    for name in ("conv.weight", "fc.weight"):
        session.send(gradient, name, 0.05)
    before = session.state_dict()
    poisoned = gradient.clone()
    poisoned[-1] = bad
    with pytest.raises(NonFiniteError, match=r"fc\.weight.*infinite"):
        session.send(poisoned, "fc.weight", 0.05)
    kept = session.memory.entries["fc.weight"].buffers["residual"]
    assert torch.equal(kept, before["fc.weight:residual"])
    assert session.send(gradient, "fc.weight", 0.05).values.isfinite().all()


def test_a_sum_that_overflows_changes_nothing(compressor):
    session, huge = GradientCompressor(compressor, Residual()), torch.full((300,), 3e38)
    huge[::2] = 1.0
    session.send(checks.draw(300), "w", 0.01)
    session.memory.entries["w"].buffers["residual"].copy_(huge)
    with pytest.raises(NonFiniteError, match=r"gradient of w: .*overflow"):
        session.send(huge, "w", 0.01)
    assert torch.equal(session.memory.entries["w"].buffers["residual"], huge)


HUGE = st.one_of(NUMBERS, st.sampled_from([2e37, -5e37, 1.5e38, 3e38]))


@given(data=st.data(), size=st.integers(2, 40))
def test_whatever_is_taken_back_no_infinity_is_sent(compressor, data, size):
    vectors = arrays.arrays(np.float32, size, elements=HUGE)
    taken_back = st.lists(st.integers(0, size - 1), unique=True)
    scales = st.sampled_from([1.0, 1.0, 1.0, 2.0, 4.0, 0.5])
    steps = data.draw(st.lists(st.tuples(vectors, st.floats(1e-9, 1), taken_back, scales), min_size=2, max_size=5))
    checks.check_taken_back(compressor, [(torch.from_numpy(x), *rest) for x, *rest in steps])


def test_what_is_taken_back_may_be_huge(compressor):
    huge = torch.ones(300)
    huge[:4] = 3e38
    checks.check_taken_back(compressor, [(huge, 0.05, [0, 1, 2, 3], 1.0), (huge / 6, 0.05, [], 1.0)])
    checks.check_taken_back(compressor, [(huge / 6, 0.05, [0, 1, 2, 3], 1.0), (huge / 6, 0.05, [], 6.0)])
