"""A recurrent language model: embedding, stacked LSTM layers, output layer; dropout between layers only.

    preset    layers   width   dropout   initial weights
    small     2        200     0         U(-0.1, 0.1)
    medium    2        650     0.5       U(-0.05, 0.05)
    large     2        1500    0.65      U(-0.04, 0.04)

With 10,000 words they have 4,653,200, 19,780,400 and 66,034,000 parameters.

**Differs from the paper**: every sequence of `context` tokens (35 there) starts from a state of zeros, in training and
in evaluation, since batches are shuffled windows; the paper carries the state on from window to window, so that its
perplexities are lower. PyTorch's LSTM has two biases for each gate where the paper has one.

**Reference**: W. Zaremba, I. Sutskever, O. Vinyals, Recurrent Neural Network Regularization, 2014, arXiv 1409.2329;
tied weights: O. Press, L. Wolf, Using the Output Embedding to Improve Language Models, 2017, arXiv 1608.05859.
"""

from typing import Literal

from torch import Tensor, nn

from lowbit.models._base import TextModel
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import Count, OpenFraction, variant

_PRESETS = {"small": (2, 200, 0.0, 0.1), "medium": (2, 650, 0.5, 0.05), "large": (2, 1500, 0.65, 0.04)}


class _LSTM(nn.Module):
    def __init__(self, vocabulary: int, depth: int, width: int, dropout: float, spread: float, tied: bool):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, depth, batch_first=True, dropout=dropout if depth > 1 else 0.0)
        self.classifier = nn.Linear(width, vocabulary)
        self.dropout = nn.Dropout(dropout)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -spread, spread)
        if tied:
            self.classifier.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.dropout(self.tokens(tokens)))
        return self.classifier(self.dropout(states))


@variant
class LSTM(TextModel):
    """Stacked LSTM; a preset sets what is left out.

    Args:
        preset: layers, width, dropout and initial weights of the paper's networks.
        depth: layers; default from the preset.
        width: features of a token and of a state; default from the preset.
        dropout: share of the values between layers that is dropped in training; default from the preset.
        tied: whether embedding and output layer share their weight.
    """

    preset: Literal["small", "medium", "large"] = "small"
    depth: Count | None = None
    width: Count | None = None
    dropout: OpenFraction | None = None
    tied: bool = False

    def build(self, *, vocabulary: int, context: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised LSTM; it takes sequences of any length, and has no attention."""
        *preset, spread = _PRESETS[self.preset]
        given = (self.depth, self.width, self.dropout)
        depth, width, dropout = (p if g is None else g for g, p in zip(given, preset, strict=True))
        return _LSTM(vocabulary, depth, width, dropout, spread, self.tied)
