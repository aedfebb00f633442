"""Put low-bit layers into a model, and say layer by layer what was done and why not.

    table = convert(model, ConversionRules(weight=TernaryAbsmean(), activation=Int8Absmax(), surrogate=Identity()))

By default the first convolution (or, in a model without any, nothing) and the last linear layer stay in full
precision, and what the model names in `full_precision`, as patterns. BitLinear has its RMSNorm inside; a norm that only
feeds converted layers is then superfluous and removed (SubLN). Models name such norms in `absorbed_norms`: norm -> the
layers it feeds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import nn

from lowbit.errors import SettingError
from lowbit.layers.bit_conv2d import BitConv2d
from lowbit.layers.bit_linear import BitLinear
from lowbit.quantizers._base import Quantizer
from lowbit.surrogates._base import Surrogate

BitLayer = BitLinear | BitConv2d


@dataclass(frozen=True, kw_only=True)
class ConversionRules:
    """What to convert, and to what.

    Args:
        weight: quantizer of latent weights.
        activation: quantizer of layer inputs.
        surrogate: derivative used for rounding.
        norm: whether BitLinear has an RMSNorm inside (and absorbs the norm before it).
        include: name patterns (`fnmatch`) of layers to convert.
        exclude: name patterns to leave; None leaves the first convolution, the last linear layer, and what the model
            names in `full_precision`.
        absorbed_norms: norm name -> names of the layers it feeds; None asks the model's `absorbed_norms`.
    """

    weight: Quantizer
    activation: Quantizer
    surrogate: Surrogate
    norm: bool = True
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] | None = None
    absorbed_norms: Mapping[str, tuple[str, ...]] | None = field(default=None)


@dataclass(frozen=True)
class LayerRecord:
    """One row of the conversion table.

    Args:
        name: of the layer in the model.
        kind: class name before conversion.
        parameters: number of weights, without bias.
        bits: per weight, after conversion.
        converted: whether it is a low-bit layer now.
        reason: why it is not, or what else happened.
    """

    name: str
    kind: str
    parameters: int
    bits: float
    converted: bool
    reason: str


def convert(model: nn.Module, rules: ConversionRules) -> list[LayerRecord]:
    """Replace linear and convolutional layers in place; weights are carried over.

    Returns:
        One record per linear, 2-d convolutional and embedding layer, then one per absorbed norm, in the model's order.
        A layer that the model uses under several names is listed under the first and replaced under all.

    Raises:
        SettingError: when a pattern matches no layer; lists the layers there are. When there is a recurrent layer:
            its weights would stay in full precision unsaid.
    """
    quantizes = rules.weight.bits < 32 or rules.activation.bits < 32
    if quantizes and (recurrent := [n for n, m in model.named_modules() if isinstance(m, nn.RNNBase)]):
        raise SettingError(
            f"{', '.join(recurrent)}: there are no low-bit recurrent layers; set quantization.weight and "
            "quantization.activation to {name: none}"
        )
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Embedding)}
    exclude = (*_first_and_last(layers), *_kept(model)) if rules.exclude is None else rules.exclude
    for pattern in (*rules.include, *exclude):
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise SettingError(f"pattern {pattern!r} matches no layer; layers are: {', '.join(layers) or 'none'}")
    table = []
    replaced: dict[nn.Module, BitLayer] = {}
    for name, layer in layers.items():
        reason = _reason_to_leave(name, layer, rules, exclude, _kept(model))
        if not reason:
            replaced[layer] = _low_bit(layer, rules)
        now = replaced.get(layer, layer)
        low_bit = isinstance(now, BitLayer)
        bits = now.weight_quantizer.bits if low_bit else 8.0 * layer.weight.element_size()
        table.append(LayerRecord(name, type(layer).__name__, layer.weight.numel(), bits, low_bit, reason))
    names = [(n, m) for n, m in model.named_modules(remove_duplicate=False) if m in replaced]
    for name, layer in names:
        model.set_submodule(name, replaced[layer])
    return table + _absorb_norms(model, rules, {name for name, _ in names})


def _first_and_last(layers: Mapping[str, nn.Module]) -> tuple[str, ...]:
    convolutions = [n for n, m in layers.items() if isinstance(m, nn.Conv2d)]
    linears = [n for n, m in layers.items() if isinstance(m, nn.Linear)]
    return (*convolutions[:1], *linears[-1:])


def _kept(model: nn.Module) -> tuple[str, ...]:
    """Patterns of layers that a model wants in full precision."""
    return getattr(model, "full_precision", ())


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _reason_to_leave(
    name: str, layer: nn.Module, rules: ConversionRules, exclude: tuple[str, ...], kept: tuple[str, ...]
) -> str:
    if isinstance(layer, BitLayer):
        return "is low-bit already"
    if rules.weight.bits >= 32 and rules.activation.bits >= 32:
        return "quantizers are none"
    if isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "nn.MultiheadAttention reads its weight and never calls it"
    if isinstance(layer, nn.Embedding):
        return "embeddings are looked up, not multiplied"
    if not _matches(name, rules.include):
        return "not included"
    if rules.exclude is None and _matches(name, kept):
        return "the model keeps it in full precision"
    if _matches(name, exclude):
        return "first or last layer" if rules.exclude is None else "excluded"
    return ""


def _low_bit(layer: nn.Linear | nn.Conv2d, rules: ConversionRules) -> BitLayer:
    parts = {
        "weight_quantizer": rules.weight,
        "activation_quantizer": rules.activation,
        "surrogate": rules.surrogate,
        "bias": layer.bias is not None,
        "device": layer.weight.device,
        "dtype": layer.weight.dtype,
    }
    if isinstance(layer, nn.Linear):
        new = BitLinear(layer.in_features, layer.out_features, norm=rules.norm, **parts)
    else:
        shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        new = BitConv2d(*shape, groups=layer.groups, padding_mode=layer.padding_mode, **parts)
    new.weight = layer.weight
    new.bias = layer.bias
    return new.train(layer.training)


def _absorb_norms(model: nn.Module, rules: ConversionRules, converted: set[str]) -> list[LayerRecord]:
    """Remove norms that feed converted BitLinears only; a learned gain moves into the norms inside."""
    if not rules.norm:
        return []
    declared = rules.absorbed_norms if rules.absorbed_norms is not None else getattr(model, "absorbed_norms", {})
    table = []
    for name, fed in declared.items():
        norm = model.get_submodule(name)
        inner = [model.get_submodule(n) for n in fed]
        if not all(n in converted and isinstance(m, BitLinear) for n, m in zip(fed, inner, strict=True)):
            continue
        with torch.no_grad():
            for layer in inner:
                if getattr(norm, "weight", None) is not None:
                    layer.norm.weight.copy_(norm.weight)
        model.set_submodule(name, nn.Identity())
        reason = f"norm absorbed by {', '.join(fed)}"
        table.append(LayerRecord(name, type(norm).__name__, 0, 0.0, False, reason))
    return table


def bit_layers(model: nn.Module) -> dict[str, BitLayer]:
    """The low-bit layers of a model by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, BitLayer)}


def set_blend(model: nn.Module, blend: float) -> None:
    """Set lambda of the quantization warm-up in every low-bit layer: 0 is full precision, 1 fully quantized."""
    for layer in bit_layers(model).values():
        layer.blend = blend


def set_progress(model: nn.Module, progress: float) -> None:
    """Tell the surrogate of every low-bit layer which fraction of training is done."""
    for layer in bit_layers(model).values():
        layer.surrogate = layer.surrogate.at(progress)
