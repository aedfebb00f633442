"""The hook that a run's exchange asks for."""

from torch.nn.parallel import DistributedDataParallel

from lowbit import catalog
from lowbit.compressors import GradientCompressor
from lowbit.distributed.ddp_hook import SparseHook, register_sparse_hook
from lowbit.distributed.torch_hooks import TorchHook, register_torch_hook
from lowbit.train.assemble import Run
from lowbit.train.reproducibility import derived_seed


def hook_of(model: DistributedDataParallel, run: Run) -> SparseHook | TorchHook:
    """Register it on the model. What it draws at random is alike on all ranks, and differs between seeds of an arm.

    Args:
        model: of the run.
        run: with `spec.exchange`.
    """
    settings, seed = run.spec.exchange, run.spec.seed
    if settings.method != "sparse":
        drawn = derived_seed(seed, "PowerSGD") % 2**32
        rank = {"matrix_approximation_rank": settings.matrix_rank, "start_powerSGD_iter": 2, "random_seed": drawn}
        return register_torch_hook(model, settings.method, **(rank if settings.method == "powersgd" else {}))
    compressor = settings.compressor
    if hasattr(compressor, "seed"):
        compressor = compressor.model_copy(update={"seed": derived_seed(seed, "compressor", compressor.seed)})
    warmup_steps = max(1, round(settings.warmup_epochs * run.batches.steps_per_epoch))
    return register_sparse_hook(
        model,
        GradientCompressor(catalog.build("compressors", compressor), catalog.build("feedback", settings.feedback)),
        settings.density,
        scheme=settings.scheme.model_dump(),
        granularity=settings.granularity,
        ranks_per_node=settings.ranks_per_node,
        warmup=settings.warmup,
        warmup_steps=warmup_steps if settings.warmup else 0,
        pipeline=settings.pipeline,
        timeout_seconds=settings.timeout_seconds,
        check_every=settings.check_every_steps,
    )
