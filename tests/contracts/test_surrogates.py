"""What every surrogate owes, for every variant under every setting, in any quantizer."""

import pytest
import torch
from checks.settings import all_variations, label
from checks.surrogates import (
    ANTIDERIVATIVES,
    check_attach,
    check_functional_transforms,
    check_is_derivative,
)

from lowbit import catalog


@pytest.fixture(params=all_variations("surrogates"), ids=label)
def surrogate(request):
    return catalog.build("surrogates", request.param)


@pytest.mark.parametrize("name", catalog.available("surrogates"))
def test_its_antiderivative_is_listed(name):
    assert name in ANTIDERIVATIVES, f"add the function that {name} is the derivative of to checks/surrogates.py"


@pytest.mark.parametrize("settings", all_variations("surrogates"), ids=label)
def test_it_is_the_derivative_of_its_antiderivative(settings):
    check_is_derivative(catalog.build("surrogates", settings), ANTIDERIVATIVES[settings["name"]])


def test_it_is_attached_exactly(surrogate):
    check_attach(surrogate)


def test_it_passes_functional_transforms(surrogate):
    check_functional_transforms(surrogate)


def test_its_derivative_is_even_bounded_and_of_the_inputs_dtype(surrogate):
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        u = torch.linspace(-4, 4, 33, dtype=dtype)
        slope = surrogate.surrogate_gradient(u)
        assert slope.dtype == dtype
        assert slope.shape == u.shape
        assert torch.equal(slope, slope.flip(0))
        assert slope.isfinite().all()
        assert slope[16] > 0


@pytest.mark.parametrize("settings", all_variations("quantizers"), ids=label)
def test_it_serves_any_quantizer(surrogate, settings):
    quantizer = catalog.build("quantizers", settings)
    x = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    q = quantizer.quantize(x.detach(), (0,))
    fake = quantizer.fake_quantize(x, surrogate, (0,))
    assert torch.equal(fake, q.dequantize())
    (of_x,) = torch.autograd.grad(fake.sum(), x)
    exact = quantizer.bits == 32
    assert torch.equal(of_x, torch.ones_like(x) if exact else surrogate.surrogate_gradient(x.detach() / q.scale))
