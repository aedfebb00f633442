"""GPT-2 as it was published, by the library `transformers` (extra: transformers): an architecture, no trained weights.

Small has 124,439,808 and medium 354,823,168 parameters with 50,257 tokens and a context of 1,024. Embedding and output
layer share their weight; LayerNorm, biases, GELU in its tanh form.

Attention is the library's with this project's softmax in it, so that any base and temperature reaches it. The library's
`Conv1D`, a linear layer whose weight is stored transposed, is a plain `nn.Linear` here, which low-bit layers can take
the place of.

**Reference**: A. Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
"""

from typing import Literal

from torch import Tensor, nn

from lowbit.errors import MissingExtraError, SettingError
from lowbit.layers.attention import attend_for_transformers
from lowbit.models._base import TextModel, check_length
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.variant import Count, OpenFraction, variant

_PRESETS = {"small": (12, 768, 12), "medium": (24, 1024, 16)}  # depth, width, heads


class _GPT2(nn.Module):
    def __init__(self, network: nn.Module, softmax: ExponentialSoftmax, conv1d: type):
        super().__init__()
        self.network = network
        for name, layer in [(n, m) for n, m in network.named_modules() if isinstance(m, conv1d)]:
            network.set_submodule(name, _linear(layer))
        for block in network.transformer.h:
            block.attn.softmax = softmax
        blocks = [f"network.transformer.h.{i}" for i in range(len(network.transformer.h))]
        self.absorbed_norms = {f"{b}.ln_1": (f"{b}.attn.c_attn",) for b in blocks}
        self.absorbed_norms |= {f"{b}.ln_2": (f"{b}.mlp.c_fc",) for b in blocks}

    def forward(self, tokens: Tensor) -> Tensor:
        check_length(tokens, self.network.config.n_positions)
        return self.network(input_ids=tokens, use_cache=False).logits


def _linear(layer: nn.Module) -> nn.Linear:
    """The linear layer with the weight of a `Conv1D`."""
    inputs, outputs = layer.weight.shape
    linear = nn.utils.skip_init(nn.Linear, inputs, outputs, device=layer.weight.device)
    linear.weight = nn.Parameter(layer.weight.detach().t().contiguous())
    linear.bias = layer.bias
    return linear


@variant
class GPT2(TextModel):
    """GPT-2; a preset sets what is left out.

    Args:
        preset: depth, width and heads of GPT-2 small or medium.
        depth: blocks; default from the preset.
        width: features of a token; default from the preset.
        heads: attention heads; divides the width; default from the preset.
        dropout: of embeddings, attention weights and residual branches, in training.
    """

    preset: Literal["small", "medium"] = "small"
    depth: Count | None = None
    width: Count | None = None
    heads: Count | None = None
    dropout: OpenFraction = 0.1

    def build(self, *, vocabulary: int, context: int, softmax: ExponentialSoftmax) -> nn.Module:
        """A freshly initialised GPT-2 with as many positions as the context is long.

        Raises:
            MissingExtraError: when transformers is not installed.
            SettingError: when the heads do not divide the width.
        """
        try:
            from transformers import AttentionInterface, GPT2Config, GPT2LMHeadModel
            from transformers.pytorch_utils import Conv1D
        except ImportError as error:
            raise MissingExtraError(
                "model gpt2: transformers is not installed; pip install 'lowbit[transformers]' or use model gpt"
            ) from error
        given = (self.depth, self.width, self.heads)
        depth, width, heads = (p if g is None else g for g, p in zip(given, _PRESETS[self.preset], strict=True))
        if width % heads:
            raise SettingError(f"width {width} must be a multiple of heads {heads}; change one of them")
        AttentionInterface.register("lowbit", attend_for_transformers)
        config = GPT2Config(
            vocab_size=vocabulary, n_positions=context, n_layer=depth, n_embd=width, n_head=heads,
            resid_pdrop=self.dropout, embd_pdrop=self.dropout, attn_pdrop=self.dropout,
            bos_token_id=None, eos_token_id=None, attn_implementation="lowbit",
        )  # fmt: skip
        return _GPT2(GPT2LMHeadModel(config), softmax, Conv1D)
