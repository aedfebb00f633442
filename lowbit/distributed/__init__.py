"""Data-parallel training that exchanges few entries of gradients.

- `register_sparse_hook`: for any model in `DistributedDataParallel`; `ddp_hook`.
- `exchange`: one exchange of a vector of gradients; `layout` says what lies where in it.
- `regroup`, `state`: what is kept between steps, when buckets or the number of ranks change.
- `torch_hooks`: PyTorch's own hooks, to compare with.
- `netbench`: exchanges and training over links of a known rate, in the `namespaces` of this machine.
- `worker`, `watch`: the thread of the exchange, and who is missing when it fails; `replicas`: whether ranks agree.
"""

from lowbit.distributed.ddp_hook import SparseHook, register_sparse_hook
from lowbit.distributed.exchange import Exchange
from lowbit.distributed.layout import Group, Layout, Part
from lowbit.distributed.torch_hooks import TORCH_HOOKS, register_torch_hook

__all__ = [
    "TORCH_HOOKS",
    "Exchange",
    "Group",
    "Layout",
    "Part",
    "SparseHook",
    "register_sparse_hook",
    "register_torch_hook",
]
