"""What determines one run: the settings of its data, model, quantization, softmax, loss, recipe and records.

`RunSpec` is frozen, complete and free of anything volatile: equal specs mean equal results. `Task` is the same
without a place in a study; arms are partial tasks. Descriptions here are the help of the command line and of the JSON
schema.
"""

import json
from typing import Any, Literal

from pydantic import Field, model_validator

from lowbit import catalog
from lowbit.catalog import Settings
from lowbit.exchange_spec import Exchange
from lowbit.variant import Count, Fraction, NonNegative, NonNegativeInt, OpenFraction, Positive, SymbolicPositive

NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]*$"
_NONE = {"name": "none"}


class Quantization(Settings):
    """What `lowbit.layers.convert` does to the model; weight and activation `none` leave full precision."""

    weight: catalog.slot("quantizers") = Field(
        {"name": "ternary_absmean"}, validate_default=True, description="Quantizer of the latent weights."
    )
    activation: catalog.slot("quantizers") = Field(
        _NONE, validate_default=True, description="Quantizer of layer inputs."
    )
    surrogate: catalog.slot("surrogates") = Field(
        {"name": "identity"}, validate_default=True, description="Derivative used for rounding."
    )
    norm: Literal["rms", "none"] = Field(
        "rms", description="Normalisation inside BitLinear; with rms the norm before it is removed."
    )
    include: tuple[str, ...] = Field(("*",), description="Layer name patterns to convert.")
    exclude: tuple[str, ...] | None = Field(
        None, description="Patterns kept in full precision; null keeps the first and the last layer."
    )
    blend_epochs: NonNegative = Field(
        0.0, description="Epochs over which quantization is blended in linearly (lambda 0 to 1)."
    )


class Loss(Settings):
    """Training loss. Reported losses are always unscaled, unsmoothed nats."""

    scale: SymbolicPositive = Field(1.0, description="Factor on the training loss: a number, 'ln2' or '1/ln2' (bits).")
    label_smoothing: OpenFraction = Field(
        0.0, description="Probability mass moved from the target to the uniform distribution."
    )


class Training(Settings):
    """The recipe: how long, how large a step, in which order."""

    epochs: Positive = Field(5.0, description="Passes over the training split; may be fractional.")
    batch_size: Count = Field(64, description="Samples (or sequences) per micro-batch.")
    gradient_accumulation_steps: Count = Field(1, description="Micro-batches per optimizer step.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="Optimizer.")
    lr: Positive = Field(1e-3, description="Peak learning rate.")
    momentum: OpenFraction = Field(0.9, description="Momentum of SGD.")
    beta1: OpenFraction = Field(0.9, description="AdamW decay of the first moment.")
    beta2: OpenFraction = Field(0.95, description="AdamW decay of the second moment.")
    eps: Positive = Field(1e-8, description="AdamW epsilon.")
    weight_decay: NonNegative = Field(
        0.0, description="Decoupled in AdamW, in the gradient in SGD; never on norms, biases, embeddings of position."
    )
    decay_latent: bool = Field(
        True, description="Whether weight decay also acts on the latent weights of quantized layers."
    )
    scheduler: Literal["constant", "cosine", "step", "linear", "two_stage"] = Field(
        "cosine", description="Learning rate schedule after warm-up."
    )
    warmup_epochs: NonNegative = Field(0.0, description="Epochs of linear warm-up.")
    final_lr_fraction: Fraction = Field(
        0.0, description="Learning rate at the end, as a fraction of the peak (cosine, linear)."
    )
    step_epochs: Positive = Field(30.0, description="Epochs between drops (step).")
    step_factor: Fraction = Field(0.1, description="Factor of a drop (step); peak of the second stage (two_stage).")
    clip_norm: NonNegative = Field(
        0.0, description="Global gradient norm above which gradients are scaled down; 0 never clips."
    )
    mixup: NonNegative = Field(0.0, description="Alpha of mixup on images; 0 is off.")
    crop_padding: NonNegativeInt = Field(0, description="Pixels of padding of the random crop on training images.")
    horizontal_flip: bool = Field(False, description="Mirror training images at random.")
    precision: Literal["float32", "bfloat16", "float64"] = Field(
        "float32", description="bfloat16: autocast with float32 latent weights, norms, scales, softmax and loss."
    )
    evaluations_per_epoch: Positive = Field(
        1.0, description="Validation passes per epoch; a fraction skips epochs. The last step is always validated."
    )
    validation_batch_size: Count = Field(
        256, description="Samples per validation batch; changes speed, not results beyond rounding."
    )


class Recording(Settings):
    """What a run writes down beside its results."""

    log_every: Count = Field(
        1, description="Optimizer steps between host synchronisations and flushes of events.jsonl."
    )
    ternary_every_steps: Count = Field(
        10, description="Optimizer steps between measurements of zero fraction and flip rate."
    )
    track_grads: bool = Field(False, description="Write per-layer gradient norms to gradients.jsonl.")
    save_checkpoints: bool = Field(False, description="Keep the best and the last weights in the run folder.")
    checkpoint_every_steps: NonNegativeInt = Field(
        0, description="Optimizer steps between numbered checkpoints that are kept; 0 keeps none."
    )
    resume_seconds: NonNegative = Field(
        30.0, description="Seconds between the checkpoints that an interrupted run resumes from."
    )
    tensorboard: bool = Field(False, description="Write TensorBoard files (extra: tensorboard).")
    wandb: bool = Field(False, description="Log to Weights & Biases; offline unless logged in (extra: wandb).")
    sample_gpu: bool = Field(True, description="Sample memory, power and energy through NVML where a GPU is present.")


class Trainable(Settings):
    """Fields that a task and a run share; an arm may set any of them."""

    model: catalog.slot("models")
    quantization: Quantization = Field(Quantization(), description="Low-bit layers.")
    softmax: catalog.slot("softmaxes") = Field(
        {"name": "base_e"}, validate_default=True, description="Softmax of attention and loss."
    )
    softmax_where: Literal["both", "attention", "loss"] = Field(
        "both", description="Where the softmax applies; the other place keeps base e at temperature 1."
    )
    loss: Loss = Field(Loss(), description="Training loss.")
    train: Training = Field(Training(), description="Recipe.")
    record: Recording = Field(Recording(), description="What is written down.")
    context: Count = Field(64, description="Tokens per sequence (text).")
    exchange: Exchange | None = Field(
        None, description="Training in several processes and how they exchange gradients; null for one process."
    )
    threads: Count = Field(1, description="CPU threads of each process; results are bit-exact for one value.")

    @model_validator(mode="after")
    def _samples_for_all(self) -> "Trainable":
        samples = self.train.batch_size * self.train.gradient_accumulation_steps
        if self.exchange and self.exchange.ranks > samples:
            raise ValueError(
                f"exchange.ranks must be at most the samples of a step, {samples}, got {self.exchange.ranks}: raise "
                "train.batch_size or use fewer"
            )
        return self

    @model_validator(mode="after")
    def _momentum_once(self) -> "Trainable":
        exchange, train = self.exchange, self.train
        sparse = exchange is not None and exchange.method == "sparse" and exchange.compressor.name != "none"
        again = train.optimizer != "sgd" or train.momentum > 0
        if sparse and exchange.feedback.name == "momentum_correction" and again:
            raise ValueError(
                "exchange.feedback momentum_correction takes momentum before compression, and train.optimizer would "
                "take it again: set train.optimizer: sgd and train.momentum: 0"
            )
        return self


class RunSpec(Trainable):
    """Everything that determines the result of one run, resolved; stored as spec.json in the run folder."""

    study: str = Field("by_hand", pattern=NAME_PATTERN, description="The question this run belongs to.")
    task: str = Field("by_hand", pattern=NAME_PATTERN, description="What is trained.")
    arm: str = Field("by_hand", pattern=NAME_PATTERN, description="The variant under study.")
    seed: NonNegativeInt = Field(0, description="Fixes initialisation, data order and augmentation.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the run computes.")
    dataset: str = Field("digits", pattern=NAME_PATTERN, description="Folder name of the prepared dataset.")
    start_from: str | None = Field(
        None, description="Weights file to start from; null starts from a fresh initialisation."
    )

    @property
    def gpus(self) -> int:
        """GPUs the run needs: one for each process."""
        return self.ranks if self.device == "cuda" else 0

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return self.exchange.ranks if self.exchange else 1

    @property
    def cores(self) -> int:
        """CPU threads of all processes."""
        return self.threads * self.ranks

    @property
    def path(self) -> str:
        """Folder of the run below the results folder; a shared pretraining run has no arm."""
        arm = () if self.study == "pretrain" else (self.arm,)
        return "/".join((self.study, self.task, *arm, f"seed{self.seed}"))

    def to_json(self) -> str:
        """Canonical text: equal specs give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1) + "\n"

    @property
    def code(self) -> tuple[str, ...]:
        """Package files whose meaning this run depends on, before following imports."""
        exchange = self.exchange.code if self.exchange else ()
        return ("train/run.py", "softmaxes/base_e.py", *self.network_code, *exchange)

    @property
    def network_code(self) -> tuple[str, ...]:
        """Files of the variants that the network is made of."""
        q = self.quantization
        slots = [
            ("models", self.model),
            ("softmaxes", self.softmax),
            ("quantizers", q.weight),
            ("quantizers", q.activation),
        ]
        slots += [("surrogates", q.surrogate)]
        return tuple(f"{family}/{s.name}.py" for family, s in slots)

    @property
    def code_digest(self) -> str:
        """Fingerprint of the code this run uses; part of the run rule's params."""
        return catalog.digest(*sorted(set(self.code)))


class Task(Trainable):
    """What is trained: a dataset, a model, its quantization and its recipe."""

    dataset: str = Field(description="A key of datasets.")
    start: Literal["scratch", "pretrained"] = Field(
        "scratch", description="Start from the task's shared pretraining checkpoint or not."
    )
    pretrain: dict[str, Any] | None = Field(
        None, description="Partial task laid over this one for the shared pretraining checkpoint."
    )
