"""What is kept of parameters when they are joined anew: in one unit, whatever the units were."""

import pytest
import torch

from lowbit.compressors import make
from lowbit.distributed.layout import Group, Part
from lowbit.distributed.regroup import adopt


def test_entries_of_different_scales_are_joined_in_one():
    session = make("topk")
    for name, scale in (("a", 1.0), ("b", 8.0)):
        session.send(scale * torch.tensor([1.0, 2.0, 10.0]), name, 0.34, scale=scale)  # 10 is sent, 1 and 2 are kept
    group = Group((Part("a", 0, 3), Part("b", 3, 3), Part("new", 6, 2)))
    known = {}
    adopt(session, group, known)
    (entry,) = session.memory.entries.values()
    assert known == {"a+b+new": group}
    in_units_of_one = entry.buffers["residual"] / entry.scale
    assert in_units_of_one.tolist() == pytest.approx([1, 2, 0, 1, 2, 0, 0, 0])
    sent = session.send(torch.zeros(8), "a+b+new", 0.25, scale=4.0)
    assert sent.values.tolist() == pytest.approx([8, 8])  # both twos, in units of the new scale
