"""How several processes that train one model exchange gradients: part of what determines a run."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lowbit import catalog
from lowbit.catalog import Settings
from lowbit.variant import Count, NonNegative, NonNegativeInt, Positive

_SHARING = ("randomk",)
Density = Annotated[float, Field(gt=0, le=1)]


class Exchange(Settings):
    """Data-parallel training: each process computes its share of a batch, then gradients are exchanged."""

    ranks: int = Field(2, ge=2, description="Processes that train together.")
    method: Literal["sparse", "allreduce", "fp16", "bf16", "powersgd", "noop"] = Field(
        "sparse", description="sparse: compressor and scheme below; the others are PyTorch's hooks, noop sends nothing."
    )
    compressor: catalog.slot("compressors") = Field(
        {"name": "hggtopk"}, validate_default=True, description="What chooses the entries that are sent."
    )
    feedback: catalog.slot("feedback") = Field(
        {"name": "residual"}, validate_default=True, description="What becomes of the entries that are not sent."
    )
    density: Density = Field(0.01, description="Fraction of the entries of every matrix that is sent.")
    scheme: catalog.slot("schemes") = Field(
        {"name": "allgather"}, validate_default=True, description="The way of what is sent to the other processes."
    )
    granularity: Literal["layer", "bucket"] = Field(
        "layer", description="Whether a parameter or all of a bucket are compressed as one vector."
    )
    warmup: tuple[Density, ...] = Field((), description="Densities of the first stages of training.")
    warmup_epochs: NonNegative = Field(0.0, description="Epochs of each stage of the warm-up.")
    ranks_per_node: Count = Field(
        1, description="Consecutive processes that average densely before the first of them exchanges with others."
    )
    pipeline: bool = Field(True, description="Whether backward goes on while a bucket is exchanged.")
    bucket_mb: Positive = Field(25.0, description="Megabytes of gradients in a bucket, which is exchanged as one.")
    matrix_rank: Count = Field(1, description="Rank of PowerSGD's matrices.")
    timeout_seconds: Positive = Field(
        30.0, description="Longest wait for other processes; longer than what the first does alone, such as saving."
    )
    check_every_steps: NonNegativeInt = Field(
        0, description="Optimizer steps between comparisons of all processes' parameters; 0 never compares."
    )

    @model_validator(mode="after")
    def _fitting(self) -> "Exchange":
        """What the hook would refuse."""
        if bool(self.warmup) != (self.warmup_epochs > 0):
            raise ValueError("warmup and warmup_epochs: a warm-up needs both, or neither")
        if self.ranks % self.ranks_per_node or self.ranks == self.ranks_per_node:
            raise ValueError(f"ranks_per_node must divide ranks and be smaller, got {self.ranks_per_node}")
        if self.method != "sparse":
            return self
        if any(stage <= self.density for stage in self.warmup):
            raise ValueError(f"warmup: every stage must be above density {self.density:g}, got {list(self.warmup)}")
        if self.scheme.name == "shared" and self.compressor.name not in _SHARING:
            raise ValueError(
                f"scheme shared needs the same indices on all ranks: compressor {' or '.join(_SHARING)}, "
                f"got {self.compressor.name}"
            )
        if getattr(self.feedback, "warmup", ()):
            raise ValueError("feedback.warmup counts epochs, which the exchange does not know: use warmup")
        workers = self.ranks // self.ranks_per_node
        if getattr(self.feedback, "clip", 0) and self.feedback.workers != workers:
            raise ValueError(
                f"feedback.workers must be {workers}, the ranks that compress, got {self.feedback.workers}"
            )
        return self

    @property
    def code(self) -> tuple[str, ...]:
        """Package files that the exchange depends on, before following imports."""
        files = ("train/data_parallel.py",)
        if self.method != "sparse":
            return files
        chosen = (("compressors", self.compressor), ("feedback", self.feedback), ("schemes", self.scheme))
        return (*files, *(f"{family}/{variant.name}.py" for family, variant in chosen))
