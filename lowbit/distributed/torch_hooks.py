"""PyTorch's own hooks for gradients, counted in bytes, as what a sparse exchange is compared with.

`allreduce` (float32, or what the gradients are), `fp16` and `bf16` (half of that), `powersgd` (products of thin
matrices) and `noop` (nothing: the step without communication, whose ranks drift apart).

**Reference**: `torch.distributed.algorithms.ddp_comm_hooks`; T. Vogels, S. P. Karimireddy, M. Jaggi, PowerSGD:
Practical Low-Rank Gradient Compression for Distributed Optimization, 2019, arXiv 1905.13727.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks import debugging_hooks, default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from lowbit import catalog
from lowbit.distributed.powersgd_memory import PowerSgdMemory
from lowbit.errors import SettingError

_HOOKS = {
    "allreduce": default_hooks.allreduce_hook,
    "fp16": default_hooks.fp16_compress_hook,
    "bf16": default_hooks.bf16_compress_hook,
    "powersgd": powerSGD_hook.powerSGD_hook,
    "noop": debugging_hooks.noop_hook,
}
TORCH_HOOKS = tuple(_HOOKS)


class TorchHook:
    """One of PyTorch's hooks, counted.

    Attributes:
        sent_bytes: payload that this rank has sent so far, as rings would: 2 (P - 1) / P of what is reduced.
        wire_bytes: payload of the last step.
        sent_entries: numbers that this rank has given to reductions so far.
        messages: of those rings that had to wait for one another so far.
        sent_messages: that gloo has cut it into so far.
    """

    def __init__(self, name: str, model: DistributedDataParallel, settings: dict[str, Any]):
        group = model.process_group
        self.sent_bytes = 0
        self.sent_messages = 0
        self.wire_bytes = 0
        self.sent_entries = 0
        self.messages = 0
        self._name, self._hook, self._world = name, _HOOKS[name], dist.get_world_size(group)
        self._state = powerSGD_hook.PowerSGDState(group, **settings) if name == "powersgd" else group
        self._sent_before = 0
        self._memory = None
        if name == "powersgd":
            self._memory = PowerSgdMemory(self._state, {id(p): n for n, p in model.module.named_parameters()})
        # Its later messages are sent from callbacks, which gloo runs in no order that all ranks share.
        self._one_at_a_time = name == "powersgd" and dist.get_backend(group) == "gloo"

    def on_bucket(self, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        """Count a bucket and hand it on."""
        buffer = bucket.buffer()
        length, width, compressing = buffer.numel(), buffer.itemsize, False
        if self._memory is not None:
            self._memory.arrange(bucket)
            compressing, before = self._state.iter >= self._state.start_powerSGD_iter, self._numbers()
        future = self._hook(self._state, bucket)
        if self._one_at_a_time:
            future.wait()
        if compressing:
            length = self._numbers() - before
        reduced = {"noop": 0, "fp16": 2 * length, "bf16": 2 * length}.get(self._name, width * length)
        self.sent_bytes += 2 * (self._world - 1) * reduced // self._world
        reductions = 0 if self._name == "noop" else 3 if compressing else 1  # PowerSGD: vectors, then P, then Q
        self.sent_entries += length if reductions else 0
        self.messages += 2 * (self._world - 1) * reductions
        self.sent_messages += 4 * (self._world - 1) * reductions
        if bucket.is_last():
            self.wire_bytes, self._sent_before = self.sent_bytes - self._sent_before, self.sent_bytes
        return future

    def state_dict(self) -> dict[str, Tensor]:
        """What this rank keeps between steps: nothing but with PowerSGD."""
        return {} if self._memory is None else self._memory.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what this rank kept, in as many ranks as then."""
        if self._memory is not None:
            self._memory.load_state_dict(state)

    def _numbers(self) -> int:
        return self._state.total_numel_after_compression


def register_torch_hook(model: DistributedDataParallel, name: str, **settings: Any) -> TorchHook:
    """Let a model reduce its gradients by one of PyTorch's hooks; on all ranks, before the first backward.

    Args:
        model: whose gradients are reduced.
        name: one of `TORCH_HOOKS`.
        settings: of `PowerSGDState`, for `powersgd`; `start_powerSGD_iter` is 1000 unless set.

    Raises:
        SettingError: for another name, or settings where there are none.
    """
    if name not in _HOOKS:
        raise SettingError(f"hook {name!r}: {catalog.suggestion(name, _HOOKS)}")
    if settings and name != "powersgd":
        raise SettingError(f"hook {name}: takes no settings, got {', '.join(settings)}; leave them out")
    hook = TorchHook(name, model, settings)
    model.register_comm_hook(hook, TorchHook.on_bucket)
    return hook
