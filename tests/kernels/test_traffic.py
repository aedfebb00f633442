"""Bytes that a call moves, against what each pass has to."""

import pytest
import torch

from lowbit.kernels.triton import select, traffic

SIZE = 8192
K = int(SIZE * traffic.DENSITY)


@pytest.fixture(scope="module")
def process():
    with traffic.interpreting_process() as process:
        yield process


@pytest.mark.parametrize(
    ("dtype", "finite", "expected"),
    [
        (torch.float32, False, (8 + 12, 4 + 12, 4 + 12 + 4 + 4, 4 + 8)),
        (torch.float32, True, (12 + 4, 12, 12 + 4 + 4)),
        (torch.bfloat16, False, (6 + 10, 2 + 10, 2 + 10 + 4 + 4, 2 + 6)),
    ],
    ids=["checked", "finite", "bfloat16"],
)
def test_passes_over_gradient_and_residual_are_as_many_as_needed(process, dtype, finite, expected):
    rows = process.submit(traffic.count, dtype, finite, SIZE).result()
    for route, passes in zip(dict.fromkeys(row.route for row in rows), expected, strict=True):
        dense = sum(row.dense_bytes for row in rows if row.route == route)
        if route == "refused":
            assert dense == passes, "nothing is written"
            continue
        assert dense == pytest.approx(passes + 4 * K / SIZE, abs=1e-9), route  # what is sent becomes 0
        by_kernel = {row.kernel: row.other_bytes for row in rows if row.route == route}
        assert by_kernel["emit"] >= (8 + 8) * K / SIZE  # candidates are read, outputs written
        assert sum(by_kernel[name] for name in ("count", "scan", "emit")) < 60 * K / SIZE
        bins = sum(bins for _, bins in select.DIGITS)
        assert by_kernel.pop("pick") == pytest.approx(8 * bins / SIZE, rel=0.01)  # whatever N is: read, and set to 0
        room = select.room_for(SIZE, K) / SIZE
        assert sum(by_kernel.values()) < (1 if route != "wrong guess" else 1 + 8 * room), route
