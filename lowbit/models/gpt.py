"""A small decoder-only transformer: token and position embeddings, pre-norm blocks, untied output layer.

**Differs from the paper**: RMSNorm instead of LayerNorm, no biases, initial weights scaled by their inputs (a fixed
0.02 suits one width only), and an output layer of its own (tied embeddings would take away the free scale of the
logits, on which the comparison of softmaxes rests).

**Reference**: A. Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
"""

import torch
from torch import Tensor, nn

from lowbit.layers.attention import SelfAttention
from lowbit.models._base import TextModel, check_length
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import Count, variant


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp_ratio: int, softmax: ExponentialSoftmax):
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=1e-5)
        self.attention = SelfAttention(width, heads, softmax, causal=True, bias=False)
        self.mlp_norm = nn.RMSNorm(width, eps=1e-5)
        self.expand = nn.Linear(width, mlp_ratio * width, bias=False)
        self.contract = nn.Linear(mlp_ratio * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.contract(nn.functional.gelu(self.expand(self.mlp_norm(x))))


class _GPT(nn.Module):
    def __init__(self, vocabulary, context, depth, width, heads, mlp_ratio, softmax):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(_Block(width, heads, mlp_ratio, softmax) for _ in range(depth)))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.classifier = nn.Linear(width, vocabulary, bias=False)
        self.absorbed_norms = {
            f"blocks.{i}.{norm}": (f"blocks.{i}.{fed}",)
            for i in range(depth)
            for norm, fed in (("attention_norm", "attention.qkv"), ("mlp_norm", "expand"))
        }
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_residual = name.endswith(("attention.output.weight", "contract.weight"))
                std = parameter.shape[1] ** -0.5
                nn.init.normal_(parameter, std=std / (2 * depth) ** 0.5 if into_residual else std)

    def forward(self, tokens: Tensor) -> Tensor:
        check_length(tokens, self.positions.num_embeddings)
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(positions)
        return self.classifier(self.norm(self.blocks(x)))


@variant
class GPT(TextModel):
    """Decoder-only transformer.

    Args:
        depth: blocks.
        width: features of a token.
        heads: attention heads; divides the width.
        mlp_ratio: hidden features of the MLP over width.
    """

    depth: Count = 4
    width: Count = 128
    heads: Count = 4
    mlp_ratio: Count = 4

    def build(self, *, vocabulary: int, context: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised decoder."""
        return _GPT(vocabulary, context, self.depth, self.width, self.heads, self.mlp_ratio, softmax)
