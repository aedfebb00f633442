"""lowbit: claims about training networks of 1 to 2 bits, put to the test.

The package, in reading order:

- `softmaxes`, `quantizers`, `surrogates`: the variants, one file each; `variant` is their form, `catalog` finds them.
- `layers`: BitLinear, BitConv2d, attention, and `convert`, which puts them into a model; `models`, `data`.
- `compressors`, `feedback`: few entries of a gradient for all of them, and what becomes of the rest; `kernels`.
- `schemes`, `distributed`: the exchange of such entries between the ranks of data-parallel training.
- `spec`, `config`: YAML to one frozen `RunSpec` per run.
- `train`: `assemble` (names to objects), `loop` (the events of a run), `listeners`, `run` (a spec into its folder).
- `analysis`: finished runs to tables, statistics, verdicts and figures; no torch.
- `commands`: the steps of the pipeline; `python -m lowbit --help` lists them.
- `benchmarks`: speeds as ratios; `compression`: the study of compressors.
- `gpu_slots`, `processes`, `manifest`, `atomic`: what surrounds a job on a shared machine.
"""

__version__ = "0.1.0"
