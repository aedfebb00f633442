"""Surrogates against their formulas as published, against each other where they coincide, and along training."""

import math

import pytest
import torch

from lowbit import catalog
from lowbit.quantizers.binary_sign import BinarySign
from lowbit.surrogates.dsq import DSQ
from lowbit.surrogates.ede import EDE
from lowbit.surrogates.identity import Identity
from lowbit.surrogates.magnitude_aware import MagnitudeAware
from lowbit.surrogates.reste import ReSTE
from lowbit.surrogates.steep import Steep
from lowbit.surrogates.swish_sign import SwishSign
from lowbit.surrogates.triangle import Triangle
from lowbit.surrogates.window import Window

U = torch.linspace(-3.0, 3.0, 481, dtype=torch.float64)  # multiples of 1/80: borders at 1, 1/2 and 1/10 among them


def same(actual, expected, **tolerance):
    torch.testing.assert_close(actual, expected, **(tolerance or {"rtol": 1e-12, "atol": 1e-14}))


def alike(one, other, u=U, **tolerance):
    same(one.surrogate_gradient(u), other.surrogate_gradient(u), **tolerance)
    same(one.antiderivative(u), other.antiderivative(u), **tolerance)


@pytest.mark.parametrize("b", [1.0, 5.0, 10.0])
def test_swish_sign_is_the_printed_formula(b):
    z, sigma = b * U, torch.sigmoid(b * U)
    swish = SwishSign(b=b)
    same(swish.surrogate_gradient(U), b * (2 - z * torch.tanh(z / 2)) / (1 + torch.cosh(z)))
    same(swish.antiderivative(U), 2 * sigma * (1 + z * (1 - sigma)) - 1)
    around = torch.tensor([2.39, 2.41], dtype=torch.float64) / b
    assert swish.surrogate_gradient(around).sign().tolist() == [1, -1]


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_ede_is_the_formula_of_ir_net_at_every_epoch(progress):
    t = 10 ** (-3 + 4 * progress)
    k = max(1 / t, 1.0)
    ede = EDE().at(progress)
    assert ede.t == pytest.approx(t, rel=1e-12)
    same(ede.surrogate_gradient(U), k * t * (1 - torch.tanh(t * U) ** 2))
    assert ede.mass == pytest.approx(2 * k, rel=1e-12)


def test_ede_goes_from_the_identity_to_the_mass_of_a_sign():
    ede = EDE()
    assert (ede.at(0.0).t, ede.at(1.0).t) == (1e-3, 10.0)
    alike(ede.at(0.0), Identity(), rtol=1e-5, atol=0)
    assert (ede.at(0.0).mass, ede.at(0.75).mass, ede.at(1.0).mass) == (2000.0, pytest.approx(2.0), 2.0)
    assert EDE(normalized=True).at(0.0).surrogate_gradient(torch.zeros(1)).item() == pytest.approx(1e-3)


@pytest.mark.parametrize("o", [1.0, 1.5, 3.0])
def test_reste_is_a_clipped_power_with_a_chord_at_zero(o):
    reste = ReSTE(final_power=o).at(1.0)
    assert reste.power == o
    for u in (0.0, 0.05, 0.1, 0.2, 0.9, 1.5, 1.6):
        slope = 0.1 ** (1 / o) / 0.1 if u <= 0.1 else u ** ((1 - o) / o) / o if u <= 1.5 else 0.0
        for signed in (u, -u):
            actual = reste.surrogate_gradient(torch.tensor(signed, dtype=torch.float64)).item()
            assert actual == pytest.approx(slope, rel=1e-12), signed
    assert reste.mass == pytest.approx(2 * 1.5 ** (1 / o))


def test_reste_moves_from_the_window_by_one_minus_a_cosine():
    assert [ReSTE().at(p).power for p in (0.0, 0.5, 1.0)] == pytest.approx(
        [1.0, 3.0 - 2.0 * math.cos(math.pi / 4), 3.0]
    )
    alike(ReSTE(threshold=1.25), Window(width=1.25))
    alike(ReSTE(threshold=1.25, normalized=True), Window(width=1.25, normalized=True))


@pytest.mark.parametrize(("alpha", "width"), [(0.2, 1.0), (0.01, 1.0), (0.5, 2.0)])
def test_dsq_is_the_stretched_tanh_that_meets_the_codes_at_the_border(alpha, width):
    dsq, k = DSQ(initial_alpha=alpha, width=width), math.log(2 / alpha - 1) / (2 * width)
    inside = U[U.abs() <= width]
    same(dsq.antiderivative(inside), torch.tanh(k * inside) / (1 - alpha))
    same(dsq.surrogate_gradient(inside), k / (1 - alpha) * (1 - torch.tanh(k * inside) ** 2))
    border = torch.tensor([-width, width], dtype=torch.float64)
    same(dsq.antiderivative(border), torch.tensor([-1.0, 1.0], dtype=torch.float64))
    assert (dsq.surrogate_gradient(border) > 0).all()
    assert (dsq.surrogate_gradient(1.0001 * border) == 0).all()


def test_dsq_goes_from_the_window_to_the_sign():
    alike(DSQ(initial_alpha=1 - 1e-9, width=0.5), Window(width=0.5, normalized=True), rtol=1e-6, atol=1e-6)
    away = U[U.abs() > 0.1]
    same(DSQ(initial_alpha=1e-200).antiderivative(away), away.sign())
    dsq = DSQ(initial_alpha=0.25)
    assert [dsq.at(p).alpha for p in (0.0, 0.5, 1.0)] == pytest.approx([0.25, 0.05, 0.01], rel=1e-12)
    assert (dsq.at(0.0).alpha, dsq.at(1.0).alpha) == (0.25, 0.01)


def test_the_window_shrinks_along_a_geometric_series():
    window = Window(width=2.0, final_width=0.5)
    for progress, width in ((0.0, 2.0), (1.0, 0.5)):
        alike(window.at(progress), Window(width=width))
        assert window.at(progress).current_width == width
    assert window.at(0.5).current_width == pytest.approx(1.0, rel=1e-12)
    alike(Window(width=0.3).at(1.0), Window(width=0.3))


# BinaryDuo draws three surrogates for a step from 0 to 1 at 1/2; x, slope there.
DRAWN = {
    "window": (Window(), lambda x: ((x >= 0) & (x <= 1)).double()),
    "steep": (Steep(), lambda x: 2 * ((x >= 0.25) & (x <= 0.75)).double()),
    "triangle": (Triangle(), lambda x: (2 - 4 * (x - 0.5).abs()).clamp(min=0)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_what_binaryduo_draws_keeps_its_slope_and_doubles_its_width(name):
    surrogate, drawn = DRAWN[name]
    x = torch.linspace(-1, 2, 97, dtype=torch.float64)  # multiples of 1/32 are exact
    same(surrogate.surrogate_gradient(2 * x - 1), drawn(x))
    assert surrogate.mass == 2


def test_steep_is_the_normalized_window_of_half_the_width():
    alike(Steep(), Window(width=0.5, normalized=True))


def test_magnitude_aware_is_autograd_through_a_constant_scale_and_a_clip():
    w = torch.tensor([[0.25, -0.5, 1.5], [-4.0, 1.0, -1.0]], dtype=torch.float64, requires_grad=True)  # means 0.75, 2
    upstream = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    binary = BinarySign(granularity="channel")
    (actual,) = torch.autograd.grad(binary.fake_quantize(w, MagnitudeAware(), (0,)), w, upstream)
    soft = w.detach().abs().mean(1, keepdim=True) * torch.nn.functional.hardtanh(w)
    (expected,) = torch.autograd.grad(soft, w, upstream)
    inside = w.detach().abs() != 1  # where autograd takes the other side of the border
    assert torch.equal(actual[inside], expected[inside])
    assert actual.tolist() == [[0.75, 1.5, 0], [0, 10, 12]]
    alike(MagnitudeAware(), Window())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("window", {"final_width": 0.0}),
        ("window", {"progress": 1.5}),
        ("ede", {"initial_t": 0.0}),
        ("dsq", {"initial_alpha": 1.0}),
        ("dsq", {"final_alpha": 0.0}),
        ("reste", {"final_power": 0.5}),
        ("swish_sign", {"b": -5.0}),
    ],
)
def test_settings_out_of_range_are_refused(name, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        catalog.build("surrogates", {"name": name, **settings})
