"""The flags of `lowbit train`: one for every field, under its own name and the names that earlier scripts used."""

import argparse
import json
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from lowbit import catalog
from lowbit.__main__ import main
from lowbit.commands import train
from lowbit.errors import UserError
from lowbit.spec import RunSpec

SLOTS = {
    "model": "models",
    "softmax": "softmaxes",
    "quantization.weight": "quantizers",
    "quantization.activation": "quantizers",
    "quantization.surrogate": "surrogates",
    "exchange.compressor": "compressors",
    "exchange.feedback": "feedback",
    "exchange.scheme": "schemes",
}
# Settings that fit no run by themselves: flags that make room for them, and another value.
FITTING = {
    "exchange.warmup": (["--exchange.warmup-epochs", "1", "--exchange.warmup", "0.9"], [0.5, 0.25]),
    "exchange.warmup_epochs": (["--exchange.warmup", "0.5", "--exchange.warmup-epochs", "1"], 2.5),
    "exchange.ranks_per_node": (["--ranks", "4"], 2),
    "exchange.matrix_rank": (["--exchange.method", "powersgd"], 2),
    "exchange.feedback.clip": (["--feedback", "momentum_correction", "--feedback.workers", "2"], 2.5),
}
PLAIN_SGD = ["--optimizer", "sgd", "--momentum", "0"]  # for a feedback that takes momentum itself
REFUSED = {"exchange.feedback.warmup"}  # `exchange.warmup` is the one that acts


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="train", allow_abbrev=False)
    train.add_arguments(made)
    return made


def spec_of(*flags: str) -> RunSpec:
    return train._spec(parser().parse_args(list(flags)))


def leaves(model: type[BaseModel] = RunSpec, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """(dotted place, annotation, variant that has it or "") of everything that a spec can hold."""
    for name, field in model.model_fields.items():
        place = f"{prefix}{name}"
        if place in SLOTS:
            family = SLOTS[place]
            yield f"{place}.name", typing.Literal[catalog.available(family)], ""
            for variant in catalog.available(family):
                for key, setting in catalog.signature(family, variant).items():
                    yield f"{place}.{key}", setting.annotation, variant
        elif models := [m for m in (field.annotation, *typing.get_args(field.annotation)) if _is_model(m)]:
            yield from leaves(models[0], f"{place}.")
        else:
            yield place, field.annotation, ""


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


LEAVES = list(leaves())
FLAGS = {action.dest: action for action in parser()._actions}


def at(spec: RunSpec, place: str) -> Any:
    here: Any = spec.model_dump(mode="json")
    for part in place.split("."):
        here = here[part]
    return here


def test_walk_finds_the_fields():
    """The walk of these tests against the dump of a spec: both must know every field."""
    dumped: set[str] = set()
    fields = {place for place, _, _ in LEAVES}

    def collect(value: Any, place: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                collect(inner, f"{place}.{key}" if place else key)
        else:
            dumped.add(place)

    collect(spec_of("--model", "vit", "--ranks", "2").model_dump(mode="json"), "")
    assert dumped <= fields
    assert len(dumped) > 50


def test_every_field_has_a_flag_and_an_explanation():
    for place, _, _ in LEAVES:
        assert place in FLAGS, f"{place} has no flag"
        assert len(FLAGS[place].help) > 10, f"{place} is not explained"


def another(annotation: Any, value: Any) -> Any:
    """A value that a field may have, other than the one it has."""
    arguments = typing.get_args(annotation)
    if annotation is bool:
        return not value
    if typing.get_origin(annotation) is typing.Literal:
        return next(option for option in arguments if option != value)
    if typing.get_origin(annotation) is tuple or any(typing.get_origin(a) is tuple for a in arguments):
        return ["blocks.*", "stem"]
    if annotation is str or str in arguments:
        return "other"
    if "float" in str(annotation):
        return 1.25 if value is not None and value > 1 else 0.625 if value != 0.625 else 0.5
    return (value or 3) + 1


@pytest.mark.parametrize(("place", "annotation", "variant"), LEAVES, ids=[f"{p}-{v}" for p, _, v in LEAVES])
def test_flag_sets_its_field_and_no_other(place, annotation, variant):
    if place in REFUSED:
        return
    slot = place.rpartition(".")[0]
    chosen = [f"--{slot.rpartition('.')[2]}", variant] if variant else []
    if place.startswith("exchange.") and not variant:
        chosen = ["--ranks", "2"]
    chosen, fixed = FITTING.get(place, (chosen, None))
    if place.startswith("exchange.feedback."):
        chosen = [*chosen, *PLAIN_SGD]
    if place.startswith("exchange."):
        chosen = [*chosen, "--arm", "a"]
    before = spec_of(*chosen)
    value = fixed or another(annotation, at(before, place))
    if "base" in place:
        value = 3.5
    flag = FLAGS[place].option_strings[0]
    if annotation is bool:
        given = [flag if value else flag.replace("--", "--no-", 1)]
    elif isinstance(value, list):
        given = [flag, *map(str, value)]
    else:
        given = [flag, str(value)]
    after = spec_of(*chosen, *given)
    assert at(after, place) == value
    if place.endswith(".name") or place == "dataset":
        return  # the settings of the variant, and the names of task and arm, follow
    differing = [p for p, _, v in LEAVES if v in ("", variant) and _has(before, p) and at(before, p) != at(after, p)]
    assert differing == [place]


def _has(spec: RunSpec, place: str) -> bool:
    try:
        at(spec, place)
    except (KeyError, TypeError):
        return False
    return True


def test_underscores_may_stand_for_dashes():
    for action in FLAGS.values():
        for flag in action.option_strings:
            if "-" in flag[2:] and not flag.startswith("--no-") and action.dest not in ("help", "resume"):
                underscored = "--" + flag[2:].replace("-", "_")
                alone = action.dest in ("data_folder", "data_root", "gpus_granted")
                assert alone or underscored in action.option_strings, f"{underscored} is not a flag"


HISTORICAL = {
    "--dataset cifar10": ("dataset", "cifar10"),
    "--model vit": ("model.name", "vit"),
    "--batch-size 128": ("train.batch_size", 128),
    "--batch_size 128": ("train.batch_size", 128),
    "--epochs 200": ("train.epochs", 200.0),
    "--lr 1e-4": ("train.lr", 1e-4),
    "--softmax standard": ("softmax.name", "base_e"),
    "--softmax base2": ("softmax.name", "base2"),
    "--scheduler cosine": ("train.scheduler", "cosine"),
    "--scheduler step": ("train.scheduler", "step"),
    "--warmup-epochs 5": ("train.warmup_epochs", 5.0),
    "--warmup_epochs 5": ("train.warmup_epochs", 5.0),
    "--temperature 0.5": ("softmax.temperature", 0.5),
    "--temperature 1/ln2": ("softmax.temperature", "1/ln2"),
    "--softmax standard --temperature 2": ("softmax.temperature", 2.0),
    "--softmax.temperature ln2": ("softmax.temperature", "ln2"),
    "--track-grads": ("record.track_grads", True),
    "--track_grads": ("record.track_grads", True),
    "--no-track-grads": ("record.track_grads", False),
    "--save-checkpoints": ("record.save_checkpoints", True),
    "--save_checkpoints": ("record.save_checkpoints", True),
    "--wandb": ("record.wandb", True),
    "--gradient-accumulation-steps 4": ("train.gradient_accumulation_steps", 4),
    "--compressor hggtopk --density 0.05 --use-pipeline": ("exchange.density", 0.05),
    "--compressor hggtopk": ("exchange.compressor.name", "hggtopk"),
    "--compressor topk2": ("exchange.feedback.name", "none"),
    "--compressor gaussian2": ("exchange.compressor.adjustments", 5),
    "--compressor randomkec": ("exchange.feedback.name", "residual"),
    "--use-pipeline": ("exchange.pipeline", True),
    "--no-use-pipeline": ("exchange.pipeline", False),
    "--ranks 3": ("exchange.ranks", 3),
    "--seq-length 35": ("context", 35),
    "--log-interval 10": ("record.log_every", 10),
    "--gradient_accumulation_steps 4": ("train.gradient_accumulation_steps", 4),
}


@pytest.mark.parametrize("flags", HISTORICAL)
def test_historical_flags_keep_their_names(flags):
    place, value = HISTORICAL[flags]
    assert at(spec_of(*flags.split()), place) == value


@pytest.mark.parametrize(("flags", "resume"), [([], True), (["--resume"], True), (["--no-resume"], False)])
def test_resume_is_a_switch_of_the_command(flags, resume):
    assert parser().parse_args(flags).resume is resume


def test_no_flags_give_the_defaults():
    expected = RunSpec(model={"name": "resnet18"}, task="digits_resnet18", arm="base_e")
    assert spec_of() == expected


def test_names_of_a_run_follow_what_it_is_unless_given():
    spec = spec_of("--dataset", "cifar10", "--model", "vit", "--softmax", "standard")
    assert (spec.study, spec.task, spec.arm) == ("by_hand", "cifar10_vit", "standard")
    spec = spec_of("--study", "s", "--task", "t", "--arm", "a", "--seed", "3")
    assert spec.path == "s/t/a/seed3"


PLAIN = {
    "": "base_e",
    "--softmax base2 --dataset cifar10 --model vit": "base2",
    "--softmax standard": "standard",
    "--exchange.method bf16": "bf16",
    "--compressor topk2 --density 0.05": "topk2-0.05",
    "--compressor none": "none",
    "--ranks 2": "hggtopk-0.01",
}


@pytest.mark.parametrize("flags", PLAIN)
def test_the_folder_of_default_settings_has_a_plain_name_whatever_is_recorded(flags):
    for more in ("", "--seed 3", "--log-interval 5", "--save-checkpoints --threads 2"):
        spec = spec_of(*flags.split(), *more.split())
        assert spec.arm == PLAIN[flags]
        assert train.folder_name(spec, "name") == "name"


def test_runs_that_differ_in_any_setting_that_tells_them_apart_have_folders_of_their_own():
    def folder(flags: str) -> str:
        spec = spec_of(*flags.split())
        return train.folder_name(spec, f"{spec.task}-{spec.arm}")

    several = [
        *("--lr 0.1", "--lr 0.2", "--lr 0.1 --temperature 2", "--ranks 3", "--ranks 2 --softmax base2", "--arm a"),
        *("--arm base2", "--arm a --compressor topk", "--arm a --compressor hggtopk", "--task digits_vit"),
        *("--compressor none --no-use-pipeline", "--exchange.method powersgd --exchange.matrix-rank 2", "--arm topk-1"),
        *("--compressor topk --feedback none", "--compressor gaussian2 --arm gaussian-0.01", "--study s --context 35"),
    ]
    folders = {flags: folder(flags) for flags in several}
    assert len(set(folders.values())) == len(several)
    assert all(re.search("-[0-9a-f]{8}$", name) for name in folders.values())
    assert folder("--lr 0.1 --seed 4 --log-interval 10") == folders["--lr 0.1"]


def test_runs_by_hand_take_the_folder_of_their_settings(tmp_path, monkeypatch):
    """The place where they would train, which nothing but the settings decides."""
    places = []

    def execute(spec, folder, data_folder, **settings):
        places.append(folder)
        raise UserError("enough")

    monkeypatch.setattr("lowbit.train.run.execute", execute)
    (tmp_path / "manifest.json").write_text("{}")
    for flags in ("", "--lr 0.1", "--lr 0.2", "--folder mine"):
        assert main(["train", "--data-folder", str(tmp_path), *flags.split()]) == 2
    first, *digests = (place.parts[2] for place in places[:3])
    assert first == "digits_resnet18-base_e"
    assert len({first, *digests}) == 3
    assert all(place.name == "seed0" for place in places[:3])
    assert str(places[3]) == "mine"


def test_what_is_told_of_a_run_is_its_own_metric():
    best = {"loss": 1.25, "accuracy": 0.5}
    assert train.told({"metric": "accuracy", "test": {"best": best}}).startswith("test accuracy 0.5000, loss 1.2500")
    text = {"metric": "perplexity", "test": {"best": best | {"perplexity": 3.5}}}
    assert train.told(text).startswith("test perplexity 3.5000, loss 1.2500")
    assert "accuracy" not in train.told(text)


def test_a_setting_without_effect_is_refused():
    with pytest.raises(UserError, match=r"exchange\.density: has no effect with method bf16"):
        spec_of("--exchange.method", "bf16", "--density", "0.1")


def test_patterns_may_be_several_or_none():
    assert spec_of("--exclude", "stem", "blocks.*").quantization.exclude == ("stem", "blocks.*")
    assert spec_of("--exclude").quantization.exclude == ()
    assert spec_of().quantization.exclude is None


def test_settings_of_a_slot_keep_its_default_variant():
    spec = spec_of("--weight.granularity", "channel", "--temperature", "2")
    assert (spec.quantization.weight.name, spec.quantization.weight.granularity) == ("ternary_absmean", "channel")
    assert (spec.softmax.name, spec.softmax.temperature) == ("base_e", 2.0)


def test_spec_comes_back_from_its_file_and_its_text(tmp_path):
    spec = spec_of("--model", "vit", "--softmax", "base2", "--temperature", "1/ln2", "--seed", "4")
    (tmp_path / "spec.json").write_text(spec.to_json())
    assert spec_of("--spec", str(tmp_path / "spec.json")) == spec
    assert spec_of("--spec", json.dumps(spec.model_dump(mode="json"))) == spec


def test_help_shows_what_each_variant_makes_of_a_setting():
    text = FLAGS["model.width"].help
    for variant, default in (("resnet18", 64), ("gpt", 128)):
        assert catalog.signature("models", variant)["width"].text in text
        assert f"(default: {default})" in text
