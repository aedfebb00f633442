"""What every model owes: live parameters, a softmax that reaches attention, causality, independence, capacity."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lowbit.models._base import ImageModel, TextModel
from lowbit.softmaxes._base import ExponentialSoftmax
from lowbit.softmaxes.base_b import BaseB
from lowbit.softmaxes.base_e import BaseE

TINY: dict[str, dict[str, Any]] = {
    "gpt": {"depth": 2, "width": 16, "heads": 2},
    "gpt2": {"depth": 2, "width": 16, "heads": 2, "dropout": 0.0},
    "lstm": {"depth": 2, "width": 48},
    "mobilenet": {"width_mult": 0.1, "dropout": 0.0},
    "resnet18": {"width": 4},
    "resnet50": {"width_per_group": 1},
    "vgg11": {"width": 8},
    "vgg16": {"width": 8},
    "vit": {"depth": 2, "width": 16, "heads": 2},
    "xnor_resnet18": {"width": 4},
}
CLASSES, VOCABULARY, CONTEXT, IMAGE = 5, 11, 8, (3, 8, 8)


def build(recipe: ImageModel | TextModel, softmax: ExponentialSoftmax | None = None, seed: int = 0) -> nn.Module:
    """A small module of a recipe, in evaluation mode."""
    torch.manual_seed(seed)
    form = {"input_shape": IMAGE, "classes": CLASSES}
    if isinstance(recipe, TextModel):
        form = {"vocabulary": VOCABULARY, "context": CONTEXT}
    return recipe.build(**form, softmax=softmax or BaseE()).eval()


def batch(recipe: ImageModel | TextModel, size: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random inputs and targets; texts begin with different tokens, so that each can be told from the first."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(recipe, TextModel):
        tokens = torch.randint(VOCABULARY, (size, CONTEXT + 1), generator=generator)
        tokens[:, 0] = torch.arange(size) % VOCABULARY
        return tokens[:, :-1], tokens[:, 1:]
    return torch.randn(size, *IMAGE, generator=generator), torch.arange(size) % CLASSES


def attention_layers(module: nn.Module) -> list[nn.Module]:
    """The attention layers of a module: all that hold a softmax."""
    return [m for m in module.modules() if hasattr(m, "softmax")]


def loss_of(module: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy."""
    return BaseE().cross_entropy(module(inputs).flatten(0, -2), targets.flatten())


def check_shape_and_start(recipe: ImageModel | TextModel) -> None:
    """Logits of the promised shape; the seed alone fixes the weights, whatever the softmax; states load strictly."""
    module, (inputs, targets) = build(recipe), batch(recipe)
    out = (*targets.shape, VOCABULARY if isinstance(recipe, TextModel) else CLASSES)
    assert module(inputs).shape == out
    assert module(inputs).isfinite().all()
    other = build(recipe, BaseB(base=3.0))
    for (name, tensor), (_, same) in zip(module.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(tensor, same), f"{name} depends on the softmax"
    different = build(recipe, seed=1)
    assert not torch.equal(different(inputs), module(inputs)), "the seed has no effect"
    different.load_state_dict(copy.deepcopy(module).state_dict())
    assert torch.equal(different(inputs), module(inputs)), "the state dict does not hold the whole state"


def check_samples_are_independent(module: nn.Module, inputs: Tensor) -> None:
    """In evaluation mode a sample's logits do not depend on its neighbours."""
    alone = torch.cat([module(x.unsqueeze(0)) for x in inputs])
    torch.testing.assert_close(module(inputs), alone, rtol=1e-4, atol=1e-5)


def check_running_statistics(module: nn.Module) -> None:
    """Batch norms remember: PyTorch's `momentum` is the share of the newest batch, not that of the past."""
    for name, norm in module.named_modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            assert norm.momentum is None or 0 < norm.momentum <= 0.5, f"{name}: forgets all but the last batches"


def check_gradient_flow(module: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """The loss moves every parameter."""
    module.train().zero_grad()
    loss_of(module, inputs, targets).backward()
    dead = [n for n, p in module.named_parameters() if p.grad is None or not (p.grad.abs().max() > 0)]
    assert not dead, f"no gradient reaches {dead}"


def check_softmax_reaches_attention(recipe: ImageModel | TextModel, softmax: ExponentialSoftmax) -> None:
    """Every attention layer holds the very object, uses it, and another softmax gives other logits."""
    module, plain, (inputs, _) = build(recipe, softmax), build(recipe), batch(recipe)
    for p, q in zip(module.parameters(), plain.parameters(), strict=True):
        with torch.no_grad():  # scores of a fresh model are so small that every softmax is flat
            q.copy_(p.mul_(4.0 if p.ndim > 1 else 1.0))
    layers = attention_layers(module)
    assert all(layer.softmax is softmax for layer in layers), "another softmax"
    same = torch.equal(module(inputs), plain(inputs))
    assert same == (not layers), "the softmax has no effect" if layers else "the softmax acts outside attention"
    for layer in layers:
        seen = []
        recorded = _Recorded(softmax, seen)
        layer.softmax = recorded
        module(inputs)
        layer.softmax = softmax
        assert len(seen) == 1, "attention does not call its softmax"


class _Recorded:
    def __init__(self, softmax: ExponentialSoftmax, seen: list):
        self._softmax, self._seen = softmax, seen

    def attention(self, *args, **kwargs) -> Tensor:
        self._seen.append(kwargs)
        return self._softmax.attention(*args, **kwargs)


def check_causal(module: nn.Module, tokens: Tensor, vocabulary: int) -> None:
    """Changing a token changes no logits before it, and those at it."""
    before = module(tokens)
    for t in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % vocabulary
        after = module(changed)
        assert torch.equal(after[:, :t], before[:, :t]), f"position {t} is seen before it is there"
        assert not torch.equal(after[:, t], before[:, t]), f"position {t} does not see itself"
        if t + 1 < tokens.shape[1]:
            assert not torch.equal(after[:, -1], before[:, -1]), f"position {t} is forgotten"


def check_residual(module: nn.Module, silence: Callable[[nn.Module], None], inputs: Tensor) -> None:
    """With every residual branch silenced the shortcuts alone carry the input to the output."""
    silence(module)
    one, other = module(inputs), module(inputs.flip(0))
    assert not torch.allclose(one, other), "the output no longer depends on the input"


def check_learns(module: nn.Module, inputs: Tensor, targets: Tensor, steps: int, lr: float, goal: float) -> None:
    """A small batch is learned by heart."""
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(module, inputs, targets)
        loss.backward()
        optimizer.step()
        if loss.item() < goal:
            return
    raise AssertionError(f"loss is {loss.item():.3f} after {steps} steps, not below {goal}")
