"""The trace of a step: named ranges, and an exchange that runs while gradients are computed only in the pipeline."""

import json
from contextlib import ExitStack

import pytest

from lowbit.distributed import tracing
from lowbit.distributed.measurements import Training
from lowbit.distributed.netbench import Group


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Of a network so wide that a gradient takes longer than a thread to wake."""
    folder = tmp_path_factory.mktemp("traces")
    runs = [
        Training("hggtopk", 0.05, 3, width=2048, pipeline=pipeline, trace=str(folder / f"{pipeline}.json"))
        for pipeline in (True, False)
    ]
    with ExitStack() as stack:
        assert len(list(Group(stack, 2, loopback=True).measure(runs, None))) == 2
    return {pipeline: folder / f"{pipeline}.json" for pipeline in (True, False)}


def test_every_step_has_its_ranges(traces):
    for path in traces.values():
        found = tracing.intervals(path)
        assert [len(found[name]) for name in ("forward", "backward", "update")] == [3, 3, 3]
        buckets = len(found["compress"])
        assert buckets >= 6
        assert len(found["decompress"]) == buckets
        assert len(found["send"]) >= buckets
        for begin, end in found["send"]:  # inside the exchange that waits for it
            assert any(b <= begin and end <= e for b, e in found["decompress"])


def test_exchanges_overlap_with_backward_in_the_pipeline_alone(traces):
    inside, of_all = tracing.hidden(traces[True])
    assert 0 < inside < of_all
    assert tracing.hidden(traces[False])[0] == 0


def test_overlap_is_that_of_the_intervals(tmp_path):
    def event(name, begin, seconds, thread, kind="user_annotation"):
        return {"name": name, "ts": 1e6 * begin, "dur": 1e6 * seconds, "tid": thread, "cat": kind}

    events = [
        event("backward", 10, 10, 1), event("compress", 11, 2, 2), event("decompress", 13, 6, 2),
        event("aten::mm", 10.5, 1, 1, "cpu_op"), event("aten::empty", 10.6, 0.1, 1, "cpu_op"),
        event("aten::mm", 18, 1.5, 1, "cpu_op"), event("aten::sort", 11, 8, 2, "cpu_op"),
        event("aten::mm", 5, 1, 1, "cpu_op"), {"name": "process_name"},
    ]  # fmt: skip
    (tmp_path / "trace.json").write_text(json.dumps({"traceEvents": events}))
    assert tracing.intervals(tmp_path / "trace.json")["gradients"] == [(10.5, 11.5), (18, 19.5)]
    assert tracing.hidden(tmp_path / "trace.json") == pytest.approx((0.5 + 1, 8))
