"""What the pretended device catches: places that meet, and hosts that wait."""

import numpy as np
import pytest
import torch
from torch import Tensor

from olivine.host import counted, fetched, numbers_on, refused_waits, sent, waiting
from olivine.methods.parts.pooling import pool_frames
from olivine.testing.elsewhere import NAME, Pretended


@pytest.fixture
def away():
    with Pretended() as pretended:
        yield pretended


def of(pretended: Pretended, *numbers: float) -> Tensor:
    made = torch.tensor(numbers, dtype=torch.float32).to(pretended.device)
    pretended.waits.clear()
    return made


def test_it_computes_what_the_cpu_computes_and_says_it_is_elsewhere(away):
    x = of(away, 1, 2, 3).requires_grad_()
    (x.square().sum() * 2).backward()
    assert x.device.type == x.grad.device.type == NAME
    assert away.waits == []
    assert x.grad.tolist() == [4, 8, 12]


MEETINGS = {
    "sum": lambda x: x + torch.ones(3),
    "other way": lambda x: torch.ones(3) * x,
    "product": lambda x: torch.mm(x[None], torch.ones(3, 1)),
    "index": lambda x: x[torch.tensor([0])],
    "index of the CPU": lambda x: torch.ones(3)[x.long()],
    "joined": lambda x: torch.cat((x, torch.ones(1))),
    "stacked scalars": lambda x: torch.stack((x[0], torch.tensor(1.0))),
    "draw": lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
    "into": lambda x: torch.add(x, x, out=torch.empty(3)),
    "numpy": lambda x: x.numpy(),
    "array": np.asarray,
    "C++": lambda x: x.data_ptr(),
}


@pytest.mark.parametrize("meet", MEETINGS.values(), ids=MEETINGS)
def test_two_places_do_not_meet(away, meet):
    with pytest.raises((RuntimeError, TypeError), match=r"device|CPU"):
        meet(of(away, 1, 2, 3))


def test_a_single_number_of_the_cpu_may_be_added(away):
    assert (of(away, 1, 2) + torch.tensor(1.0)).tolist() == [2, 3]


WAITS = {
    "item": lambda x: x[0].item(),
    "truth": lambda x: bool(x[0]),
    "int": lambda x: int(x[0]),
    "list": lambda x: x.tolist(),
    "index by it": lambda x: [1, 2, 3, 4][x[0].long()],
    "mask": lambda x: x[x > 1],
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 1),
    "unique": torch.unique,
    "repeat": lambda x: x.repeat_interleave(x.long()),
    "count": lambda x: x.long().bincount(minlength=4),
    "equal": lambda x: torch.equal(x, x),
    "cpu": lambda x: x.cpu(),
    "copied": lambda x: torch.empty(3).copy_(x),
    "numbers": lambda x: torch.tensor([1.0], device=x.device),
    "new numbers": lambda x: x.new_tensor([1.0]),
    "list of columns": lambda x: x[None][:, [2, 1, 0]],
    "unpinned": lambda x: torch.ones(2).to(x.device, non_blocking=True),
    "pinned but waited for": lambda x: torch.ones(2).pin_memory().to(x.device),
    "of scalars": lambda x: torch.tensor([x[0], x[1]]),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_wait_is_noted_and_may_be_meant(away, wait):
    x = of(away, 1, 2, 3)
    wait(x)
    assert away.unmeant
    away.waits.clear()
    with waiting("a test"):
        wait(x)
    assert away.unmeant == []
    assert set(away.meant) == {"a test"}


GOING_ON = {
    "filled": lambda x: x.masked_fill(x > 1, 0),
    "set": lambda x: x.__setitem__(x > 1, 0),
    "sent": lambda x: sent(torch.ones(3), x.device),
    "numbers": lambda x: numbers_on(x.device, (1, 2)),
    "counted": lambda x: counted(x.long(), 4),
    "repeat": lambda x: x.repeat_interleave(torch.ones_like(x).long(), output_size=3),
    "sorted": lambda x: x.argsort(),
    "made": lambda x: torch.zeros(3, device=x.device) + torch.arange(3, device=x.device),
}


@pytest.mark.parametrize("work", GOING_ON.values(), ids=GOING_ON)
def test_the_host_goes_on(away, work):
    x = of(away, 1, 2, 3)
    work(x)
    assert away.waits == []


def test_places_are_lines_of_the_package(away):
    features, frame = of(away, 1, 2)[:, None], of(away, 0, 0).long()
    fetched(frame, "a test")
    pool_frames(features, frame, 1)
    assert [wait.place.split(":")[0] for wait in away.waits] == ["", "methods/parts/pooling.py"]


def test_counts_are_those_of_bincount():
    labels = torch.tensor([3, 0, 3, 1])
    with Pretended() as away:
        assert counted(sent(labels, away.device), 5).tolist() == counted(labels, 5).tolist() == [1, 1, 0, 2, 0]


def test_on_a_gpu_waits_are_refused_but_for_those_that_are_meant(monkeypatch):
    modes = [0]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: modes.append({"error": 2}.get(mode, mode)))
    with refused_waits(torch.device("cuda")):
        with waiting("a test", torch.device("cpu")):
            assert modes == [0, 2]
        with waiting("a test"):
            assert modes[-1] == 0
        assert modes[-1] == 2
    assert modes == [0, 2, 0, 2, 0]
    with refused_waits(torch.device("cpu")):
        assert len(modes) == 5
