"""Data-parallel training that exchanges few entries of gradients.

- `register_sparse_hook`: for any model in `DistributedDataParallel`; `ddp_hook`.
- `exchange`: one exchange of a vector of gradients; `layout` says what lies where in it.
- `regroup`, `state`: what is kept between steps, when buckets or the number of ranks change.
- `worker`, `watch`: the thread of the exchange, and who is missing when it fails; `replicas`: whether ranks agree.
"""

from lowbit.distributed.ddp_hook import SparseHook, register_sparse_hook
from lowbit.distributed.exchange import Exchange
from lowbit.distributed.layout import Group, Layout, Part

__all__ = ["Exchange", "Group", "Layout", "Part", "SparseHook", "register_sparse_hook"]
