"""Multi-head self-attention that takes its softmax as an object."""

from torch import Tensor, nn

from lowbit.errors import SettingError
from lowbit.softmaxes._base import ExponentialSoftmax


class SelfAttention(nn.Module):
    """Self-attention with one fused projection to queries, keys and values.

    Args:
        width: features of a token; a multiple of `heads`.
        heads: attention heads.
        softmax: turns scores into weights.
        causal: each position sees itself and earlier ones.
        bias: whether the projections have a bias.

    Shape:
        (B, S, width) -> (B, S, width)
    """

    def __init__(self, width: int, heads: int, softmax: ExponentialSoftmax, *, causal: bool = False, bias: bool = True):
        super().__init__()
        if width % heads:
            raise SettingError(f"width {width} must be a multiple of heads {heads}; change one of them")
        self.heads = heads
        self.softmax = softmax
        self.causal = causal
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, S, D)
        mixed = self.softmax.attention(query, key, value, causal=self.causal)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width))


def attend_for_transformers(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: None, *, dropout: float = 0.0, **_
) -> tuple[Tensor, None]:
    """Causal attention in the form that the library `transformers` calls.

    Args:
        module: the library's layer, with this project's softmax as its attribute `softmax`.
        query: shape (B, H, S, D).
        key: likewise.
        value: likewise.
        mask: None, since the library makes a mask only for its own kinds of attention.
        dropout: share of the attention weights that is dropped.

    Returns:
        Shape (B, S, H, D), and None for the weights.
    """
    mixed = module.softmax.attention(query, key, value, causal=True, dropout=dropout)
    return mixed.transpose(1, 2), None
