"""Command line flags for every field of a spec, generated from its types.

A field is a flag of its own name (`--batch-size`), whatever group it stands in, but for those of the exchange of
gradients (`--exchange.method`); a variant is chosen by name (`--model vit`) and its settings follow a dot
(`--model.depth 6`). Underscores may stand for dashes.
"""

import argparse
import json
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lowbit import catalog
from lowbit.compressor_names import HISTORICAL, as_variants
from lowbit.config_errors import explain
from lowbit.config_exchange import no_effect
from lowbit.errors import UserError
from lowbit.spec import RunSpec

Spec = typing.TypeVar("Spec", bound=BaseModel)

_FAMILIES = {
    "model": "models",
    "softmax": "softmaxes",
    "weight": "quantizers",
    "activation": "quantizers",
    "surrogate": "surrogates",
    "problem": "problems",
    "estimator": "estimators",
    "compressor": "compressors",
    "feedback": "feedback",
    "scheme": "schemes",
}
_ALIASES = {"softmax.temperature": "--temperature"}
_FURTHER = {
    "context": "--seq-length",
    "exchange.ranks": "--ranks",
    "exchange.density": "--density",
    "exchange.pipeline": "--use-pipeline",
}
_RENAMED = {
    "loss.scale": "--loss-scale",
    "reference.epsilon": "--reference-epsilon",
    "reference.samples": "--reference-samples",
    "rates.low": "--rates-low",
    "rates.high": "--rates-high",
    "rates.points": "--rates-points",
}
_OLD_NAMES = {"softmax": {"standard": "base_e"}, "compressor": HISTORICAL}
_ELSEWHERE = {"dataset", "axes", "descent", "networks"}  # flags of the commands themselves, or for spec files alone


class _Set(argparse.Action):
    """Puts a value at a dotted place of `namespace.spec`."""

    def __call__(self, parser, namespace, value, option_string=None):
        *groups, last = self.dest.split(".")
        here = namespace.spec
        for group in groups:
            here = here.setdefault(group, {})
        here[last] = value


class _SetBool(argparse.BooleanOptionalAction):
    def __call__(self, parser, namespace, value, option_string=None):
        _Set.__call__(self, parser, namespace, not option_string.startswith("--no-"), option_string)


def _spellings(flag: str) -> list[str]:
    return list(dict.fromkeys([flag, flag.replace("-", "_").replace("__", "--", 1)]))


def _kind(annotation: Any) -> dict[str, Any]:
    """argparse keywords for an annotation; values stay text and are converted by the model."""
    plain = [a for a in typing.get_args(annotation) if a is not type(None)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType) and len(plain) == 1:
        return _kind(plain[0])
    if typing.get_origin(annotation) is typing.Literal:
        return {"choices": typing.get_args(annotation)}
    if typing.get_origin(annotation) is tuple:
        return {"nargs": "*"}
    return {}


def _add(group: Any, place: str, flags: list[str], annotation: Any, text: str, default: Any) -> None:
    text = _with_default(text, default).replace("%", "%%")
    common = {"dest": place, "default": argparse.SUPPRESS, "help": text}
    spelled = [s for flag in flags for s in _spellings(flag)]
    if annotation is bool:
        group.add_argument(*spelled, action=_SetBool, **common)
        return
    metavar = {} if "choices" in _kind(annotation) else {"metavar": place.rpartition(".")[2].upper()}
    group.add_argument(*spelled, action=_Set, **common, **_kind(annotation), **metavar)


def _add_variant(group: Any, place: str, text: str) -> None:
    slot = place.rpartition(".")[2]
    family = _FAMILIES[slot]
    names = list(dict.fromkeys([*_OLD_NAMES.get(slot, {}), *catalog.available(family)]))
    _add(group, f"{place}.name", [f"--{slot}"], typing.Literal[tuple(names)], text or f"Variant of {family}.", None)
    users: dict[str, dict[str, catalog.Setting]] = {}
    for name in catalog.available(family):
        for key, setting in catalog.signature(family, name).items():
            users.setdefault(key, {})[name] = setting
    for key, settings in users.items():
        flags = [f"--{slot}.{key.replace('_', '-')}"]
        if alias := _ALIASES.get(f"{place}.{key}"):
            flags.insert(0, alias)
        first, *others = (setting.annotation for setting in settings.values())
        annotation = (
            first if all(other == first for other in others) else str
        )  # then the spec alone says what is allowed
        _add(group, f"{place}.{key}", flags, annotation, _described(settings), ...)


def _described(settings: dict[str, catalog.Setting]) -> str:
    """What a setting means to each variant that has it, and its default there."""
    users: dict[str, list[str]] = {}
    for name, setting in settings.items():
        users.setdefault(_with_default(setting.text, setting.default), []).append(name)
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in users.items())


def _with_default(text: str, default: Any) -> str:
    return text if default is ... or default is None else f"{text} (default: {default})"


def add_spec_flags(parser: argparse.ArgumentParser, model: type[BaseModel] = RunSpec) -> None:
    """Add a flag for every field of a spec; what is given ends up in `args.spec`, a nested dict."""
    parser.set_defaults(spec={})
    _add_model(parser, model, "", "run")


def _add_model(parser: argparse.ArgumentParser, model: type[BaseModel], prefix: str, title: str) -> None:
    group = parser.add_argument_group(title, (model.__doc__ or "").partition("\n")[0])
    for name, field in model.model_fields.items():
        place = f"{prefix}{name}"
        if place in _ELSEWHERE:
            continue
        if name in _FAMILIES:
            _add_variant(group, place, field.description or "")
        elif nested := _nested(field.annotation):
            _add_model(parser, nested, f"{place}.", name)
        else:
            flag = _RENAMED.get(place, f"--{'exchange.' if prefix == 'exchange.' else ''}{name.replace('_', '-')}")
            flags = [f for f in (_FURTHER.get(place), flag) if f]
            default = ... if field.is_required() else field.default
            _add(group, place, flags, field.annotation, field.description or "", default)


def _nested(annotation: Any) -> type[BaseModel] | None:
    """The model of a field that holds one, or may."""
    for member in (annotation, *typing.get_args(annotation)):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None


def add_job_flags(parser: argparse.ArgumentParser, folder: str) -> None:
    """What a rule tells a job of several processes beside its specs.

    Args:
        parser: of the command.
        folder: help of `--folder`.
    """
    parser.add_argument("--folder", type=Path, required=True, help=folder)
    parser.add_argument("--data-folder", type=Path, required=True, help="prepared dataset")
    parser.add_argument("--gpus-granted", type=int, metavar="N", help="GPUs that the scheduler granted")


def spec_from(given: dict[str, Any], **fixed: Any) -> RunSpec:
    """The spec that flags describe.

    Raises:
        UserError: for values that the spec does not take.
    """
    raw = {**given, **fixed}
    chosen = raw.get("softmax", {})
    if chosen.get("name") in _OLD_NAMES["softmax"]:
        raw["softmax"] = {**chosen, "name": _OLD_NAMES["softmax"][chosen["name"]]}
    raw["softmax"] = {"name": "base_e", **raw.get("softmax", {})}
    raw["model"] = {"name": "resnet18", **raw.get("model", {})}
    for slot, default in (("weight", "ternary_absmean"), ("activation", "none"), ("surrogate", "identity")):
        if slot in raw.get("quantization", {}):
            raw["quantization"][slot] = {"name": default, **raw["quantization"][slot]}
    exchange = raw.get("exchange")
    if exchange:
        scheme = {"name": "allgather", **exchange.get("scheme", {})}
        raw["exchange"] = {**as_variants(exchange), "scheme": scheme}
    spec = validated(RunSpec, raw)
    if faults := list(no_effect(spec.exchange, exchange)):
        raise UserError("\n".join(faults))
    return spec


def spec_of(model: type[Spec], text: str) -> Spec:
    """The spec that stands in a spec.json, or in JSON text.

    Raises:
        UserError: when it cannot be read or is no such spec.
    """
    try:
        raw = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--spec {text}: {error}; give the path of a spec.json, or its content") from None
    return validated(model, raw, "spec")


def validated(model: type[Spec], raw: dict[str, Any], place: str = "") -> Spec:
    """A spec of a kind.

    Raises:
        UserError: for values that it does not take, with the place of each.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise UserError(explain(error, raw, model, place)) from None
