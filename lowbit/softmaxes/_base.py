"""Every softmax of the exponential family is softmax_e(s z) with one natural scale s = ln(b) / T.

Base and temperature are one knob: b^(z/T) = e^(s z). Reducing each spec to s before any tensor is touched makes arms
that are mathematically equal run the same kernels on the same numbers, hence bit-identical, and makes any base free in
fused attention, which takes s as its `scale`.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor


class ExponentialSoftmax(ABC):
    """softmax_b(z; T)_i = b^(z_i / T) / sum_j b^(z_j / T) = softmax_e(s z)_i with s = ln(b) / T.

    Derivatives: dp_i/dz_j = s p_i (delta_ij - p_j); d(-ln p_y)/dz = s (p - y).
    """

    @property
    @abstractmethod
    def scale(self) -> float:
        """Natural scale s = ln(b) / T, computed once in double precision."""

    @property
    def effective_temperature(self) -> float:
        """T / ln(b): the base-e temperature of the same function."""
        return 1.0 / self.scale

    def probabilities(self, logits: Tensor, dim: int = -1) -> Tensor:
        """Probabilities along a dimension, of the logits' shape and dtype; computed in float32 or better.

        A row that is masked everywhere (all -inf) gives NaN, as torch.softmax does.
        """
        return torch.softmax(self._scaled(logits), dim).to(logits.dtype)

    def log_probabilities(self, logits: Tensor, dim: int = -1) -> Tensor:
        """Natural logarithms of the probabilities, in float32 or better."""
        return torch.log_softmax(self._scaled(logits), dim)

    def cross_entropy(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Cross-entropy in nats.

        Args:
            logits: real numbers.
            target: class numbers, or class probabilities.
            reduction: "mean" over the targets that count, "sum" or "none".
            ignore_index: target that does not count.
            label_smoothing: probability mass given to the uniform distribution.

        Shape:
            logits (N, C), target (N,) int64 or (N, C) real; returns () or (N,).
        """
        return F.cross_entropy(
            self._scaled(logits),
            target,
            reduction=reduction,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
        )

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> Tensor:
        """Scaled dot-product attention with this softmax, in PyTorch's fused kernels: any base costs what base e costs.

        Args:
            query: shape (B, H, S, D).
            key: shape (B, G, L, D); G divides H (grouped-query attention).
            value: shape (B, G, L, E).
            mask: boolean (True takes part), or a real number added to the score; broadcastable to (B, H, S, L). Not
                together with `causal`.
            causal: each position sees itself and earlier ones.
            dropout: share of the attention weights that is dropped at random.

        Returns:
            Shape (B, H, S, E); zeros for a query whose every key is masked.
        """
        if mask is not None and mask.dtype != torch.bool:
            mask = mask * self.scale  # PyTorch adds the mask after it has scaled the scores
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=causal,
            scale=self.scale / math.sqrt(query.shape[-1]),
            enable_gqa=query.shape[1] != key.shape[1],
        )

    def _scaled(self, logits: Tensor) -> Tensor:
        """s z. Half-precision logits rounded after scaling would err by 1.5e-3; they are scaled in float32."""
        precise = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        return precise if self.scale == 1.0 else precise * self.scale
