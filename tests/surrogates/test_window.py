"""The window surrogate: borders, units, and layers that do not learn outside it."""

import torch

from lowbit.layers.bit_linear import BitLinear
from lowbit.quantizers.none import NoQuantizer
from lowbit.quantizers.ternary_absmean import TernaryAbsmean
from lowbit.surrogates.identity import Identity
from lowbit.surrogates.window import Window


def test_borders_belong_to_the_window():
    u = torch.tensor([-2.0, -1.5, -1.0, 0.0, 1.0, 1.5, 2.0])
    assert Window().surrogate_gradient(u).tolist() == [0, 0, 1, 1, 1, 0, 0]
    assert Window(width=1.5).surrogate_gradient(u).tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_width_is_in_units_of_one_code():
    x = torch.tensor([0.2, -1.0, 1.4, -1.4]).requires_grad_()  # mean magnitude 1
    for factor in (1.0, 64.0):
        fake = TernaryAbsmean().fake_quantize(factor * x, Window(width=1.25))
        assert torch.autograd.grad(fake.sum(), x)[0].tolist() == [factor, factor, 0, 0]


def test_latent_weights_outside_the_window_stay():
    layer = BitLinear(
        2, 2, weight_quantizer=TernaryAbsmean(), activation_quantizer=NoQuantizer(), surrogate=Window(), norm=False
    )
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, -0.1], [0.1, 2.0]]))
    layer(torch.ones(1, 2)).sum().backward()
    assert layer.weight.grad.tolist() == [[1, 1], [1, 0]]
    layer.surrogate = Identity()
    layer.weight.grad = None
    layer(torch.ones(1, 2)).sum().backward()
    assert layer.weight.grad.tolist() == [[1, 1], [1, 1]]
