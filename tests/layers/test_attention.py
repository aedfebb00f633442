"""Self-attention: the textbook formula with the softmax it is given."""

import math

import pytest
import torch

from lowbit.layers.attention import SelfAttention
from lowbit.softmaxes.base2 import Base2
from lowbit.softmaxes.base_e import BaseE


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("softmax", [BaseE(), Base2(temperature=0.5)], ids=repr)
def test_it_is_the_formula_head_by_head(softmax, causal):
    torch.manual_seed(0)
    layer = SelfAttention(12, 3, softmax, causal=causal).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    query, key, value = layer.qkv(x).chunk(3, -1)
    heads = []
    for part in (slice(0, 4), slice(4, 8), slice(8, 12)):
        score = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(4)
        if causal:
            score = score.masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), -math.inf)
        heads.append(softmax.probabilities(score) @ value[..., part])
    torch.testing.assert_close(layer(x), layer.output(torch.cat(heads, -1)), rtol=1e-12, atol=1e-12)


def test_without_causal_the_order_of_tokens_does_not_matter():
    torch.manual_seed(0)
    layer, x = SelfAttention(8, 2, Base2()).double(), torch.randn(1, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x.flip(1)), layer(x).flip(1), rtol=1e-12, atol=1e-12)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width 10 must be a multiple of heads 3"):
        SelfAttention(10, 3, BaseE())
