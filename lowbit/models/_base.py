"""What a model variant is: a recipe that builds an `nn.Module`, given the data's form and a softmax."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lowbit.errors import SettingError
from lowbit.softmaxes._base import ExponentialSoftmax


class ImageModel(ABC):
    """A classifier of images."""

    @abstractmethod
    def build(self, *, input_shape: tuple[int, int, int], classes: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised module.

        Args:
            input_shape: (channels, height, width).
            classes: number of classes.
            softmax: used by attention, where there is any.

        Shape:
            Module: (N, C, H, W) -> logits (N, classes).
        """


class TextModel(ABC):
    """A predictor of the next token."""

    @abstractmethod
    def build(self, *, vocabulary: int, context: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised module.

        Args:
            vocabulary: number of tokens.
            context: longest sequence.
            softmax: used by attention.

        Shape:
            Module: (N, S) int64 -> logits (N, S, vocabulary); position s predicts token s + 1.
        """


def check_length(tokens: Tensor, context: int) -> None:
    """See that sequences have a position for every token.

    Args:
        tokens: shape (N, S).
        context: positions that a model was built with.

    Raises:
        SettingError: when S is larger, which an embedding would answer with a bare index error, on a GPU by aborting.
    """
    if tokens.shape[1] > context:
        raise SettingError(
            f"sequences of {tokens.shape[1]} tokens, but the model was built for a context of {context}; cut them, or "
            f"build and train it with context {tokens.shape[1]} (--context)"
        )
