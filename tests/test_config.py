"""Configuration: what is shipped resolves; what is wrong stops with its place, what is allowed and what to do."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from lowbit.analysis.claims import CLAIMS
from lowbit.compressor_names import HISTORICAL
from lowbit.config import TRAINING_STUDIES, json_schemas, load, validate
from lowbit.config_arms import laid_over
from lowbit.config_errors import ConfigError
from lowbit.config_files import merged, read_yaml
from lowbit.spec import RunSpec

ROOT = Path(__file__).parent.parent
OVERLAYS = sorted([*ROOT.glob("studies/*.yaml"), *ROOT.glob("tests/configs/*.yaml")])
DEFAULT = read_yaml(ROOT / "workflow_config.yaml")


def changed(place: str, value) -> dict:
    """The default configuration with one place set."""
    raw = copy.deepcopy(DEFAULT)
    *groups, last = place.split("/")
    here = raw
    for group in groups:
        here = here[group]
    here[last] = value
    return raw


ARMS, EXCHANGE = "studies/softmax/arms", "studies/exchange/arms"
WRONG = {
    "unknown top key": ("reslts", 1, r"reslts: unknown key; .*did you mean 'results'"),
    "unknown key": (
        "tasks/digits_vit/model/dpth",
        1,
        r"tasks\.digits_vit\.model\.dpth: unknown key; .*did you mean 'depth'",
    ),
    "misspelt variant": (
        "tasks/digits_vit/model",
        {"name": "vitt"},
        r"tasks\.digits_vit\.model\.name: unknown variant 'vitt'; must be one of .*did you mean 'vit'",
    ),
    "misspelt softmax in an arm": (
        f"{ARMS}/base2",
        {"softmax": {"name": "base3"}},
        r"arms\.base2\.softmax\.name: unknown variant 'base3'.*\(task digits_resnet18, digits_vit, stdlib_gpt\)",
    ),
    "out of range": ("tasks/digits_vit/train/epochs", 0, r"digits_vit\.train\.epochs: must be greater than 0.*got 0"),
    "not a number": ("tasks/digits_vit/train/lr", "fast", r"digits_vit\.train\.lr: .*valid number.*got 'fast'"),
    "parameter of another model": (
        f"{ARMS}/base2",
        {"model": {"depth": 3}},
        r"arms\.base2\.model\.depth: unknown key; .*\(task digits_resnet18\)",
    ),
    "attention without attention": (
        f"{ARMS}/base2",
        {"softmax": {"name": "base2"}, "softmax_where": "attention"},
        r"arms\.base2\.softmax_where: model resnet18 has no attention; use loss",
    ),
    "setting without effect": (
        f"{ARMS}/base2",
        {"train": {"momentum": 0.5}},
        r"arms\.base2\.train\.momentum: has no effect with optimizer adamw.*\(task digits_vit, stdlib_gpt\)",
    ),
    "image setting on text": (
        f"{ARMS}/base2",
        {"train": {"mixup": 0.5}},
        r"train\.mixup: acts on images only.*\(task stdlib_gpt\)",
    ),
    "exchange without compression": (
        f"{ARMS}/base2",
        {"exchange": {"method": "allreduce", "density": 0.1}},
        r"arms\.base2\.exchange\.density: has no effect with method allreduce; it needs method: sparse",
    ),
    "rank of matrices without PowerSGD": (
        f"{ARMS}/base2",
        {"exchange": {"matrix_rank": 2}},
        r"base2\.exchange\.matrix_rank: has no effect with method sparse; it needs method: powersgd",
    ),
    "density of what is sent whole": (
        f"{ARMS}/base2",
        {"exchange": {"compressor": {"name": "none"}, "density": 0.1}},
        r"base2\.exchange\.density: has no effect with compressor none",
    ),
    "shared indices that are not": (
        f"{ARMS}/base2",
        {"exchange": {"scheme": {"name": "shared"}}},
        r"base2\.exchange: .*scheme shared needs the same indices on all ranks: compressor randomk, got hggtopk",
    ),
    "warm-up of no length": (f"{ARMS}/base2", {"exchange": {"warmup": [0.25]}}, r"base2\.exchange: .*needs both"),
    "nodes of unequal size": (f"{ARMS}/base2", {"exchange": {"ranks": 3, "ranks_per_node": 2}}, r"must divide ranks"),
    "one node": (f"{ARMS}/base2", {"exchange": {"ranks_per_node": 2}}, r"ranks_per_node must .* be smaller, got 2"),
    "warm-up of another kind": (
        f"{ARMS}/base2",
        {"exchange": {"feedback": {"name": "momentum_correction", "warmup": [0.5]}}},
        r"base2\.exchange: .*use warmup",
    ),
    "clipping for other ranks": (
        f"{ARMS}/base2",
        {"exchange": {"feedback": {"name": "momentum_correction", "clip": 1.0}}},
        r"base2\.exchange: .*feedback\.workers must be 2",
    ),
    "momentum twice": (
        f"{ARMS}/base2",
        {"exchange": {"feedback": {"name": "momentum_correction"}}, "train": {"optimizer": "sgd"}},
        r"base2.*take it again: set train\.optimizer: sgd and train\.momentum: 0",
    ),
    "ranks without samples": (
        f"{ARMS}/base2",
        {"exchange": {"ranks": 1000}},
        r"base2.*exchange\.ranks must be at most the samples of a step",
    ),
    "text setting on images": (f"{ARMS}/base2", {"context": 32}, r"base2\.context: acts on text only"),
    "twin arms": (
        f"{ARMS}/twin",
        {"softmax": {"name": "base_e"}},
        r"arms\.twin: resolves to the same run as arm standard",
    ),
    "unknown baseline": (
        "studies/softmax/baseline",
        "standrd",
        r"baseline: no such arm 'standrd'.*did you mean 'standard'",
    ),
    "unknown control": ("studies/softmax/controls", {"nope": "base2"}, r"control nope\): no such arm 'nope'"),
    "unknown task": (
        "studies/softmax/tasks/nope",
        {"seeds": 1},
        r"tasks\.nope: no such task; must be one of digits_resnet18",
    ),
    "task of an arm": (
        f"{ARMS}/base2",
        {"tasks": ["nope"]},
        r"arms\.base2\.tasks: 'nope' must be one of digits_resnet18",
    ),
    "study without rules": (
        "studies/mine",
        {"tasks": {}, "arms": {"a": {}}, "baseline": "a", "treatment": "a"},
        r"studies\.mine: a study that trains must be called softmax or transfer or exchange",
    ),
    "pretraining of one arm": (
        "studies/transfer/arms/pretrained/pretrain",
        {"train": {"epochs": 1}},
        r"transfer\.arms\.pretrained\.pretrain: belongs to the task, whose checkpoint all arms share",
    ),
    "mixup that changes nothing": (
        "studies/transfer/arms/no_mixup",
        {"train": {"mixup": 0}},
        r"transfer\.arms\.no_mixup: resolves to the same run as arm scratch",
    ),
    "probes without rules": ("studies/mine", {"probes": {}, "arms": {}, "baseline": "a"}, r"must be called estimator"),
    "axis of an arm at a task": (
        "studies/estimator/probes/toy/axes/estimator.epsilon",
        [1],
        r"probes\.toy\.axes\.estimator\.epsilon: must begin with problem\.",
    ),
    "misspelt axis": (
        "studies/estimator/arms/cdg/axes/estimator.epsilonn",
        [1],
        r"arms\.cdg\.axes\.estimator\.epsilonn: must be one of .*did you mean 'epsilon'",
    ),
    "seed as an axis": ("studies/estimator/probes/toy/axes/seed", [7], r"axes\.seed: is set by `seeds`"),
    "empty axis": ("studies/estimator/arms/cdg/axes/estimator.epsilon", [], r"must be different values, at least one"),
    "twice the same": ("studies/estimator/probes/toy/axes/problem.dim", [8, 8], r"must be different values"),
    "variant as an axis": ("studies/estimator/arms/window/axes/surrogate.name", ["identity"], r"is another arm"),
    "value of an axis": ("studies/estimator/probes/toy/axes/problem.dim", [0], r"dim: must be at least 1"),
    "steps that fall": ("studies/estimator/probes/toy/rates", {"low": 1.0, "high": 0.1}, r"low must not be above high"),
    "unknown probe": ("studies/estimator/arms/cdg/tasks", ["toyy"], r"cdg\.tasks: 'toyy' must be one of toy"),
    "unknown network": (
        "studies/estimator/probes/xnor/problem/of",
        "digits_xnr",
        r"probes\.xnor\.problem\.of: no such task 'digits_xnr'; must be one of .*did you mean 'digits_xnor'",
    ),
    "unknown network on an axis": (
        "studies/estimator/probes/xnor/axes/problem.of",
        ["digits_xnor", "nope"],
        r"probes\.xnor\.axes\.problem\.of: no such task 'nope'",
    ),
    "network of text": (
        "studies/estimator/probes/xnor/problem/of",
        "stdlib_gpt",
        r"xnor\.problem\.of: task stdlib_gpt has text, and the problem needs images",
    ),
    "traces of no task": (
        "studies/compressor/traces/layers/of",
        "digits_resnt18",
        r"traces\.layers\.of: no such task 'digits_resnt18'; .*did you mean 'digits_resnet18'",
    ),
    "misspelt override of a trace": (
        "studies/compressor/traces/whole/overrides",
        {"model": {"wdth": 20}},
        r"traces\.whole\.overrides\.model\.wdth: unknown key",
    ),
    "no such trace": ("studies/compressor/speed/trace", "wole", r"speed\.trace: no such trace 'wole'; .*'whole'"),
    "misspelt axis of a compressor": (
        "studies/compressor/arms/bins/axes",
        {"compressor.bin": [1]},
        r"arms\.bins\.axes\.compressor\.bin: must be one of .*did you mean 'bins'",
    ),
    "axis of nothing": ("studies/compressor/arms/bins/axes", {"bins": [1]}, r"bins\.axes\.bins: must begin with compr"),
    "value of a compressor's axis": ("studies/compressor/arms/beta/axes", {"compressor.beta": [2]}, r"at most 1"),
    "unknown grid": ("studies/compressor/arms/beta/grids", ["abl"], r"beta\.grids: 'abl' must be one of sizes"),
    "density that is not followed": ("studies/compressor/arms/beta/densities", [0.3], r"beta\.densities: 0.3 is none"),
    "density above 1": ("studies/compressor/quality/densities", [1.5], r"densities\.0: must be at most 1"),
    "unknown input": (
        "studies/compressor/speed/grids/sizes/inputs",
        ["reel"],
        r"grids\.sizes\.inputs\.0: must be 'normal', 'student_t2' or 'real'",
    ),
    "twin compressors": (
        "studies/compressor/arms/twin",
        {"compressor": {"name": "topk"}},
        r"arms\.twin: is the same as arm topk",
    ),
    "traces without rules": (
        "studies/mine",
        {"traces": {}, "speed": {"trace": "a", "grids": {}}, "quality": {"trace": "a", "densities": [1]}, "arms": {}},
        r"studies\.mine: a study with traces must be called compressor",
    ),
    "misspelt axis of training": (
        f"{EXCHANGE}/topk2/axes",
        {"exchange.densty": [0.1]},
        r"arms\.topk2-densty0\.1\.exchange\.densty: unknown key; .*did you mean 'density'",
    ),
    "axis of no setting": (f"{EXCHANGE}/topk2/axes", {"density": [0.1]}, r"topk2\.axes\.density: must begin with "),
    "axis without a list": (
        f"{EXCHANGE}/topk2/axes",
        {"exchange.density": 0.1},
        r"topk2: .*each with a list of its val",
    ),
    "empty axis of training": (
        f"{EXCHANGE}/topk2/axes",
        {"exchange.density": []},
        r"axes\.exchange\.density: must be di",
    ),
    "density of a point": (
        f"{EXCHANGE}/topk2/axes",
        {"exchange.density": [2]},
        r"topk2-density2\.exchange\.density: .*most",
    ),
    "two points of one name": (
        f"{EXCHANGE}/topk-density0.05",
        {"exchange": {"granularity": "bucket"}},
        r"arms\.topk-density0\.05: two arms have this name",
    ),
    "value that is no name": (
        f"{EXCHANGE}/topk2/axes",
        {"train.lr": ["a b"]},
        r"topk2-lra b: is no name of a folder",
    ),
    "arm that is a point": (
        "studies/exchange/treatment",
        "hggtopk",
        r"exchange\.treatment: no such arm 'hggtopk'; must be one of .*, hggtopk-density0\.01, .*'hggtopk_waits'\?$",
    ),
    "setting of another method": (
        f"{EXCHANGE}/bf16/exchange",
        {"method": "bf16", "density": 0.5},
        r"bf16\.exchange\.density: has no effect with method bf16; it needs method: sparse",
    ),
    "seeds that differ": (
        "studies/exchange/tasks",
        {"digits_parallel": {"seeds": 3}, "digits_vit": {"seeds": 2}},
        r"studies\.exchange\.tasks: must all have as many seeds",
    ),
    "exchange of one process": (
        f"{EXCHANGE}/bf16/exchange",
        None,
        r"arms\.bf16: trains in one process; give the arm or",
    ),
    "no network": (
        "studies/estimator/probes/xnor/problem",
        {"name": "network"},
        r"probes\.xnor\.problem\.of: is required",
    ),
    "no seeds": ("studies/softmax/tasks/digits_vit", {"seeds": 0}, r"digits_vit\.seeds: must be at least 1, got 0"),
    "unknown dataset": ("tasks/digits_vit/dataset", "digts", r"digits_vit\.dataset: 'digts' must be one of digits"),
    "text model on images": (
        "tasks/stdlib_gpt/dataset",
        "digits",
        r"stdlib_gpt\.model: gpt reads text, but dataset digits has images",
    ),
    "missing": ("tasks/digits_vit", {"dataset": "digits"}, r"tasks\.digits_vit\.model: is required"),
    "bad name": (f"{ARMS}/Base 2", {"softmax": {"name": "base2"}}, r"arms\.Base 2"),
}


@pytest.mark.parametrize(("place", "value", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_explained(place, value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        validate(changed(place, value))
    assert all(line.startswith("workflow_config.yaml: ") for line in str(caught.value).splitlines())


def test_two_arms_with_one_name(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("studies:\n  softmax:\n    arms:\n      base2: {}\n      base2: {}\n")
    with pytest.raises(ConfigError, match=r"config.yaml: line 5: 'base2' stands here and on line 4; .*rename"):
        read_yaml(path)


def test_no_yaml(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match="must be a mapping"):
        read_yaml(tmp_path / "list.yaml")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(tmp_path / "broken.yaml")


def test_the_default_study_resolves_as_described():
    config = load(ROOT / "workflow_config.yaml")
    runs = config.study_runs("softmax")
    assert {r.arm for r in runs} == {"standard", "base2", "e_t1443", "base2_t0693", "loss_ln2"}
    seeds = {t: len({r.seed for r in runs if r.task == t}) for t in config.studies["softmax"].tasks}
    assert max(seeds.values()) >= 5
    assert min(seeds.values()) >= 3
    assert len({r.path for r in config.runs}) == len(config.runs)


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda p: p.name)
def test_every_shipped_overlay_resolves(path):
    assert load(ROOT / "workflow_config.yaml", path, data_root="data").runs


def test_a_change_moves_only_the_runs_it_changes():
    before = {r.path: r.to_json() for r in validate(DEFAULT).runs}
    raw = changed(f"{ARMS}/loss_ln2/loss/scale", 0.5)
    after = {r.path: r.to_json() for r in validate(raw).runs}
    moved = {path for path in after if after[path] != before[path]}
    assert moved == {path for path in before if "/loss_ln2/" in path}
    more = {r.path for r in validate(changed("studies/softmax/tasks/digits_vit", {"seeds": 4})).runs}
    assert more - before.keys() == {f"softmax/digits_vit/{arm}/seed3" for arm in DEFAULT["studies"]["softmax"]["arms"]}


def test_a_spec_survives_json_and_is_frozen():
    spec = validate(DEFAULT).runs[0]
    again = RunSpec.model_validate(json.loads(spec.to_json()))
    assert again == spec
    assert again.to_json() == spec.to_json()
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 1


def test_the_spec_holds_nothing_volatile():
    text = validate(DEFAULT).runs[0].to_json()
    assert str(ROOT) not in text
    assert str(Path.home()) not in text


def test_code_of_a_run_names_its_variants():
    runs = validate(DEFAULT).study_runs("softmax")
    base2 = {r.arm for r in runs if "softmaxes/base2.py" in r.code}
    assert base2 == {"base2", "base2_t0693"}


def test_pretraining_is_shared_by_arms_and_full_precision():
    config = load(ROOT / "workflow_config.yaml", ROOT / "tests/configs/tiny.yaml")
    assert [r.path for r in config.pretraining] == ["pretrain/digits_vit/seed0", "pretrain/digits_vit/seed1"]
    assert config.pretraining[0].quantization.weight.name == "none"
    assert config.pretraining[0].record.save_checkpoints
    starts = {r.arm: r.start_from for r in config.runs if r.seed == 1}
    assert starts["pretrained"] == "results/pretrain/digits_vit/seed1/weights.safetensors"
    assert starts["standard"] is None


def test_every_training_study_has_its_rule_and_its_claims():
    assert set(TRAINING_STUDIES) == set(CLAIMS)
    rules = {name: (ROOT / f"rules/{name}.smk").read_text() for name in TRAINING_STUDIES}
    assert all(re.search(rf"^(rule|use rule \w+ as) {name}\b", text, re.MULTILINE) for name, text in rules.items())
    assert all(f'include: "rules/{name}.smk"' in (ROOT / "Snakefile").read_text() for name in rules)


@pytest.mark.parametrize("overlay", [(), (ROOT / "studies/transfer_cifar.yaml",)], ids=["default", "cifar"])
def test_pretraining_is_paid_for_in_epochs(overlay):
    """Arms that claims compare are trained for as many epochs in all, with pretraining that no arm can alter."""
    config = load(ROOT / "workflow_config.yaml", *overlay, data_root="data")
    before = {(r.task, r.seed): r for r in config.pretraining if r.task in config.studies["transfer"].tasks}
    compared = {claim.treatment for claim in CLAIMS["transfer"]} | {claim.baseline for claim in CLAIMS["transfer"]}
    runs = [r for r in config.study_runs("transfer") if r.arm in compared]
    whole = {(r.task, r.train.epochs + (before[r.task, r.seed].train.epochs if r.start_from else 0)) for r in runs}
    assert {r.arm for r in runs} == compared
    assert len(whole) == len({task for task, _ in whole})
    assert {p.quantization.weight.name + p.quantization.activation.name for p in before.values()} == {"nonenone"}
    assert {p.train.mixup for p in before.values()} == {0.0}
    assert {r.arm for r in runs if r.train.mixup} == {"scratch_mixup", "pretrained_mixup"}


def test_the_compressor_study_resolves_to_two_runs_and_their_traces():
    def resolved(raw):
        config = validate(raw)
        return {run.path: run.to_json() for run in (*config.study_runs("compressor"), *config.traces)}

    before = resolved(changed("device", "cpu"))
    runs, traces = ("compressor/speed", "compressor/quality"), {f"traces/layers/seed{seed}" for seed in range(3)}
    assert before.keys() == {*runs, "traces/whole/seed0", *traces}
    on_gpu = resolved(changed("device", "cuda"))
    assert on_gpu.keys() == before.keys() | {"compressor/speed_cuda"}, "times of both devices"
    after = resolved(changed("studies/compressor/speed/rounds", 3) | {"device": "cpu"})
    assert {path for path in after if after[path] != before[path]} == {"compressor/speed"}
    full = load(ROOT / "workflow_config.yaml", ROOT / "studies/compressors.yaml", device="cpu")
    assert list(full.studies) == ["compressor"]
    assert full.study_runs("compressor")[0].speed.grids["sizes"].sizes == (10**4, 10**5, 10**6, 10**7)
    assert {trace.name: trace.run.model.width for trace in full.traces} == {"whole": 64, "layers": 16}
    assert len(full.traces) == 6


def test_an_axis_makes_an_arm_of_each_value():
    raw = changed(f"{EXCHANGE}/topk/axes", {"exchange.density": [0.01, 0.05, 0.1], "train.epochs": [1, 2.5]})
    raw["studies"]["exchange"]["controls"] = {}
    runs = {r.arm: r for r in validate(raw).study_runs("exchange") if r.seed == 0 and r.arm.startswith("topk-")}
    names = {f"topk-density{d}-epochs{e}" for d in (0.01, 0.05, 0.1) for e in (1, 2.5)}
    assert runs.keys() == names
    one = runs["topk-density0.05-epochs2.5"]
    assert (one.exchange.density, one.train.epochs, one.exchange.compressor.name) == (0.05, 2.5, "topk")
    assert one.path == "exchange/digits_parallel/topk-density0.05-epochs2.5/seed0"


def test_the_exchange_study_has_the_arms_of_its_claims():
    study = validate(DEFAULT).study_runs("exchange")
    assert {r.exchange.method for r in study} == {"sparse", "allreduce", "bf16", "powersgd", "noop"}
    assert _claimed() - {r.arm for r in study} == {"topk-density0.1"}, "left to the larger studies"


def _claimed() -> set[str]:
    """Arms that claims of the exchange study name."""
    return {arm for claim in CLAIMS["exchange"] for arm in (claim.treatment, claim.baseline) if arm}


@pytest.mark.parametrize("overlay", ["exchange", "exchange_digits"])
def test_the_ten_compressors_are_in_the_larger_exchange_studies(overlay):
    study = load(ROOT / "workflow_config.yaml", ROOT / f"studies/{overlay}.yaml", data_root="data")
    used = [r.exchange for r in study.study_runs("exchange") if r.exchange.method == "sparse"]
    assert len(HISTORICAL) == 10
    for name, (selector, feedback) in HISTORICAL.items():
        fitting = [e for e in used if selector.items() <= e.compressor.model_dump().items()]
        plain = [e for e in fitting if e.feedback.name == feedback and e.scheme.name == "allgather"]
        assert (name == "none" and fitting) or {e.density for e in plain} == {0.01, 0.05, 0.1}, name
    assert {r.seed for r in study.runs} == set(range(5))
    assert _claimed() <= {r.arm for r in study.runs}


def test_networks_that_are_measured_are_pretrained():
    config = validate(DEFAULT)
    of_network = [r for r in config.pretraining if r.task == "digits_xnor"]
    seeds = DEFAULT["studies"]["estimator"]["probes"]["xnor"]["seeds"]
    assert [r.path for r in of_network] == [f"pretrain/digits_xnor/seed{s}" for s in range(seeds)]
    for run in config.runs:
        measured = getattr(run, "networks", {})
        assert bool(measured) == (run.task == "xnor")
        for network in measured.values():
            trained = [r for r in of_network if r.seed == 0]
            assert network.model_copy(update={"start_from": None}) == trained[0]
            assert network.start_from == "results/pretrain/digits_xnor/seed{seed}/weights.safetensors"
    raw = validate(changed("studies/estimator/probes/xnor/axes/problem.start_from", ["raw"]))
    assert "digits_xnor" not in {r.task for r in raw.pretraining}, "nothing starts from a checkpoint"


def test_code_of_a_measured_network_is_code_of_its_runs_alone():
    runs = {r.path: r for r in validate(DEFAULT).runs if r.study == "estimator"}
    of_network = {path for path, run in runs.items() if "models/xnor_resnet18.py" in run._network_code}
    assert of_network == {f"estimator/xnor/{arm}" for arm in ("ste", "cdg", "window")}


def test_overlays_merge_replace_and_drop():
    assert merged({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}}
    config = validate(changed("studies/softmax/tasks/stdlib_gpt", None))
    assert "stdlib_gpt" not in config.studies["softmax"].tasks


def test_another_variant_replaces_settings_of_the_old_one():
    task = {"softmax": {"name": "base_b", "base": 3.0, "temperature": 2.0}}
    assert laid_over(task, {"softmax": {"name": "base2"}}) == {"softmax": {"name": "base2"}}
    assert laid_over(task, {"softmax": {"base": 4.0}})["softmax"] == {"name": "base_b", "base": 4.0, "temperature": 2.0}


@pytest.mark.parametrize("name", ["workflow_config.schema.json", "overlay.schema.json"])
def test_schemas_are_in_step(name):
    assert (ROOT / "schemas" / name).read_text() == json_schemas()[name], "run: python -m lowbit schema"


@pytest.mark.parametrize("path", [ROOT / "workflow_config.yaml", *OVERLAYS], ids=lambda p: p.name)
def test_shipped_files_name_and_satisfy_their_schema(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    schema = json.loads((path.parent / first.partition("=")[2]).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"tasks": {"x": {"model": {"name": "vitt"}}}}, schema)


def test_the_configuration_is_read_in_milliseconds_without_torch():
    import subprocess
    import sys

    code = (
        "import sys; from lowbit.config import load; load('workflow_config.yaml').runs; print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_full_exchange_study_has_what_a_hook_can_do():
    study = load(ROOT / "workflow_config.yaml", ROOT / "studies/exchange.yaml", data_root="data").study_runs("exchange")
    exchanges = {(run.task, run.arm): run.exchange for run in study}
    tasks = {task for task, _ in exchanges}
    assert len(tasks) == 2
    for task in tasks:
        of_task = [e for (t, _), e in exchanges.items() if t == task]
        assert {e.method for e in of_task} == {"sparse", "allreduce", "fp16", "bf16", "powersgd", "noop"}
        assert {e.density for e in of_task if e.ranks_per_node == 2} == {0.01, 0.05, 0.1}
        assert any(e.warmup and e.feedback.name == "residual" for e in of_task)
        assert {e.scheme.name for e in of_task} == {"allgather", "gtopk", "oktopk", "shared"}
    corrected = [run for run in study if run.exchange.feedback.name == "momentum_correction"]
    assert {run.train.momentum for run in corrected} == {0.0}, "the optimizer's own would be a second one"
    assert {bool(run.exchange.warmup) for run in corrected} == {True, False}


def test_text_alone_is_in_the_exchange_study_of_text():
    study = load(ROOT / "workflow_config.yaml", ROOT / "studies/exchange_text.yaml").study_runs("exchange")
    assert {(run.dataset, run.model.name, run.exchange.ranks) for run in study} == {("stdlib_text", "gpt", 2)}
    assert _claimed() <= {run.arm for run in study}
