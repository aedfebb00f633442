"""Start and reference gradient of a problem, made once and shared by all arms: a file per point of the task's axes."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import safetensors.torch
import torch

from lowbit import catalog, manifest
from lowbit.atomic import replacing, write_text
from lowbit.data._base import sha256_of
from lowbit.errors import SettingError
from lowbit.estimators._base import Parameters
from lowbit.estimators.autograd import Autograd
from lowbit.estimators.cdg import CDG
from lowbit.probe_spec import TASK_AXES, ProbeSpec
from lowbit.problems._base import NetworkProblem, Problem, stream
from lowbit.surrogates.window import Window

DATA = Path("results/data")

_CHUNK = 8192


def problem_of(point: ProbeSpec, data: Path) -> Problem:
    """The problem of a spec, posed for its network where it is about one.

    Args:
        point: whose problem.
        data: holds the prepared datasets, each in a folder of its name.
    """
    problem = catalog.build("problems", point.problem)
    if not isinstance(problem, NetworkProblem):
        return problem
    if point.network is None:
        raise SettingError(
            f"problem.of: this spec knows the networks {sorted(point.networks)}, not {point.problem.of!r}: networks "
            "are trained by the pipeline, so name the task in a probe of the configuration, or start from the spec of "
            "such a run: --spec results/estimator/<task>/<arm>/spec.json"
        )
    return problem.posed(point.network, data / point.network.dataset)


def write(spec: ProbeSpec, folder: Path, data: Path = DATA, progress: Callable[[Iterable], Iterable] = iter) -> None:
    """Write start and reference at every point of a spec's task axes.

    Points that an interrupted call has written are kept, if they would come out the same today.

    Args:
        spec: of any arm of the task; what an arm sets plays no part.
        folder: filled with `point<number>.safetensors`, spec.json and manifest.json.
        data: holds the prepared datasets.
        progress: wraps the points (a progress bar).
    """
    work = folder / manifest.SCRATCH
    work.mkdir(parents=True, exist_ok=True)
    points = [work / f"point{number}.safetensors" for number in range(len(spec.problems))]
    for path, point in progress(list(zip(points, spec.problems, strict=True))):
        origin = {"origin": _origin(point, data)}
        if not path.exists() or _metadata(path) != origin:
            problem = problem_of(point, data)
            tensors = problem.start(point.seed)
            content = {f"start/{n}": t for n, t in tensors.items()}
            for half, gradient in enumerate(halves(problem, tensors, point)):
                content |= {f"half{half}/{n}": t.contiguous() for n, t in gradient.items()}
            with replacing(path) as temporary:
                safetensors.torch.save_file(content, temporary, metadata=origin)
    for old in folder.glob("point*.safetensors"):
        old.unlink()  # an earlier reference in this folder may have had more points
    for path in points:
        path.replace(folder / path.name)
    write_text(folder / "spec.json", _identity(spec))
    manifest.write(folder)
    shutil.rmtree(work)


def _origin(point: ProbeSpec, data: Path) -> str:
    """Digest of all that start and reference at a point follow from."""
    text = _identity(point)
    if point.network is not None:
        start = Path((point.network.start_from or "").format(seed=point.seed))
        read = [data / point.network.dataset / manifest.NAME, start]
        text += "".join(sha256_of(path) for path in read if path.is_file())
    return hashlib.sha256(text.encode()).hexdigest()


def _metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata()


def is_of(spec: ProbeSpec, folder: Path) -> bool:
    """Whether a folder holds start and reference of a spec, made by the code as it is now."""
    path = folder / "spec.json"
    complete = (folder / manifest.NAME).exists() and path.exists()
    return complete and path.read_text(encoding="utf-8") == _identity(spec)


def _identity(spec: ProbeSpec) -> str:
    """What start and reference follow from: neither what an arm sets nor how it is measured."""
    left_out = {"study", "task", "arm", "estimator", "surrogate", "axes", "rates", "scope"}
    left_out |= {"batches", "batch_size", "held_out_size"}
    axes = {place: values for place, values in spec.axes.items() if place.startswith(TASK_AXES)}
    content = spec.model_dump(mode="json", exclude=left_out) | {"axes": axes, "code": spec.reference_code_digest}
    return json.dumps(content, sort_keys=True, indent=1) + "\n"


def read(folder: Path, number: int) -> tuple[Parameters, tuple[Parameters, Parameters]]:
    """Start and the two halves of the reference at a point."""
    content = safetensors.torch.load_file(folder / f"point{number}.safetensors")
    parts: dict[str, Parameters] = {}
    for key, tensor in content.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = tensor
    return parts["start"], (parts["half0"], parts["half1"])


def halves(problem: Problem, tensors: Parameters, spec: ProbeSpec) -> tuple[Parameters, Parameters]:
    """Two independent references: the truth where it is known, backpropagated where nothing is rounded, else CDG."""
    return tuple(_half(problem, tensors, spec, half) for half in (0, 1))


def _half(problem: Problem, tensors: Parameters, spec: ProbeSpec, half: int) -> Parameters:
    chunks = max(1, spec.reference.samples // 2 // _CHUNK)
    size = max(1, spec.reference.samples // 2 // chunks)
    total: Parameters = {}
    for chunk in range(chunks):
        draws = stream(spec.seed, "reference", half, chunk)
        objective = problem.objective(tensors, Window(), draws, size, spec.tensors)
        exact = objective.true_gradient()
        if exact is not None:
            return {n: t.double() for n, t in exact.items()}
        estimator = Autograd() if objective.smooth else CDG(epsilon=spec.reference.epsilon)
        found = estimator.direction(objective, torch.Generator())[0]
        total = {n: total.get(n, 0) + t.double() / chunks for n, t in found.items()}
    return total
