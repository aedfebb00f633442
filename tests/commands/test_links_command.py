"""The run of the network study: interrupted anywhere, it goes on; what determines it is checked and fingerprinted."""

import inspect
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import ValidationError

from lowbit import catalog
from lowbit.__main__ import main
from lowbit.compressors import make
from lowbit.distributed import links, namespaces
from lowbit.distributed.measurements import Case, Measured, Traffic, cases, trainings
from lowbit.errors import UserError
from lowbit.network_spec import Links, NetworkSpec, Sizes


def test_a_run_that_is_killed_while_it_is_published_goes_on(tmp_path, monkeypatch):
    measured = []

    def pieces(spec, why, scratch, stack):
        def measure():
            measured.append(why)
            scratch.mkdir(parents=True, exist_ok=True)
            for name in links.TRACES.values():
                (scratch / name).write_text("{}")
            yield {"type": "exchange", "seconds": 0.5}

        return {"1gbit": measure}

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(links, "pieces", pieces)
    monkeypatch.setattr(links, "why_loopback", lambda spec: "")
    command = ["links", "--spec", "{}", "--folder", str(tmp_path)]
    with monkeypatch.context() as patched:
        patched.setattr("lowbit.pieces.publish", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            sys.exit(main(command))
    assert main(command) == 0
    assert measured == [""], "once"
    assert json.loads((tmp_path / "summary.json").read_text())["records"] == 1
    assert all((tmp_path / name).read_text() == "{}" for name in links.TRACES.values())


def test_code_of_all_that_is_measured_is_part_of_the_fingerprint(monkeypatch):
    roots = []
    monkeypatch.setattr(catalog, "digest", lambda *given: roots.extend(given) or "digest")
    assert NetworkSpec().code_digest == "digest"
    jobs = [*cases(1000, 0.01, 1), *(t for t in trainings(1, 0.01) if t.hook in links._HOOKS)]
    built = []
    for job in jobs:
        name = job.compressor if isinstance(job, Case) else job.hook
        if name in catalog.available("compressors") or name == "randomkec":
            session = make(name)
            built += [session.compressor, session.feedback]
        if isinstance(job, Case):
            built.append(catalog.build("schemes", {"name": job.scheme}))
    files = {inspect.getfile(type(variant)) for variant in built if variant is not None}
    wanted = {
        path.relative_to(catalog.PACKAGE).as_posix() for path in catalog.PACKAGE.rglob("*.py") if str(path) in files
    }
    assert "feedback/residual.py" in wanted
    assert {root for root in roots if not root.startswith("distributed/")} == wanted


def test_what_takes_little_is_measured_more_often(monkeypatch):
    spec = NetworkSpec(links=Links(fitted=("100mbit", "400mbit")), sizes=Sizes(fitted=(100_000, 1_000_000)))
    dense, bfloat16, sparse, *_ = cases(1_000_000, 0.01, spec.rounds)
    small = cases(200_000, 0.01, spec.rounds)[0]
    of_link = {link: [links.repeats(spec, link, case) for case in (dense, bfloat16, small, sparse)]
               for link in ("100mbit", "400mbit", links.LOOPBACK)}  # fmt: skip
    assert of_link == {
        "100mbit": pytest.approx([1, 2, 5, 10]),
        "400mbit": pytest.approx([4, 8, 10, 10]),
        links.LOOPBACK: pytest.approx([1, 2, 5, 10]),
    }
    asked = []
    monkeypatch.setattr(links.Group, "measure", lambda group, jobs, rate: iter(asked.extend(jobs) or ()))
    with ExitStack() as stack:
        assert list(links.pieces(spec, "", Path(), stack)["400mbit"]()) == []
    rounds = {(job.name, job.numel): job.rounds for job in asked if isinstance(job, Case)}
    assert rounds["dense float32", 1_000_000] == 4 * spec.rounds
    assert rounds["hggtopk 0.01 allgather", 100_000] == 10 * spec.rounds
    steps = {job.hook: job.steps for job in asked if not isinstance(job, Case)}
    assert steps == {name: spec.train_steps * (4 if name in ("allreduce", "bf16") else 5) for name in links._HOOKS}


def test_records_know_the_latency_of_their_links(monkeypatch, tmp_path):
    spec = NetworkSpec.model_validate({"links": {"latency": "2ms"}})
    monkeypatch.setattr(namespaces, "what_is_missing", lambda: "")
    monkeypatch.setattr(namespaces, "_fault", lambda command: "no netem")
    with pytest.raises(UserError, match="a latency of 2 ms on links: needs netem"):
        links.why_loopback(spec)
    asked = []

    def measure(group, jobs, rate):
        asked.append((group._latency, rate))
        case = next(job for job in jobs if isinstance(job, Case))
        yield Measured(case, 0.1, 0.0, 0.0, Traffic(1.0, 1.0, 1.0, None, 1448))

    monkeypatch.setattr(links.Group, "measure", measure)
    for why, told in (("", (0.002, 1e8)), ("no right", (0.002, None))):
        with ExitStack() as stack:
            piece = next(iter(links.pieces(spec, why, tmp_path, stack).values()))
            assert [record["latency_seconds"] for record in piece()] == [0.0 if why else 0.002]
        assert asked.pop() == told


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (Links, {"fitted": ["1gbit", "1000mbit"]}, "1000mbit, which is 1gbit, is fitted and again fitted"),
        (Links, {"fitted": ["1gbit", "1gbit"]}, "1gbit is fitted and again fitted; leave it in one place"),
        (Links, {"held_out": ["0.1gbit"]}, "0.1gbit, which is 100mbit, is fitted and again held out"),
        (Links, {"held_out": ["1gbit", "1000mbit"]}, "1000mbit, which is 1gbit, is held out and again held out"),
        (Links, {"fitted": ["1gbit"]}, "at least 2 items"),
        (Links, {"latency": "1 minute"}, "'1 minute': must be a number with us, ms or s, or 0"),
        (NetworkSpec, {"ranks": 1}, "greater than or equal to 2"),
        (NetworkSpec, {"ranks": 9}, "less than or equal to 8"),
        (Sizes, {"held_out": [100_000]}, "100000 is fitted and again held out"),
        (Sizes, {"fitted": [1000, 1000]}, "1000 is fitted and again fitted"),
    ],
)
def test_links_and_sizes_differ(model, given, message):
    with pytest.raises(ValidationError, match=message):
        model.model_validate(given)
