import pytest
import torch

from builders.processes import of_both, run_two
from methods.deepcluster import two_processes
from olivine.testing.toy_runs import ToyLoader

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_two(two_processes.run, tmp_path_factory.mktemp("two_processes"))


def _same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_two_processes_assign_and_start_as_one_does(folder):
    alone = two_processes.make()
    alone.start_epoch(0, lambda: ToyLoader().everything(0))
    first, second = of_both(folder, "start")
    _same(first, second)
    _same(first, alone.state_dict())
    assert first["assignments._extra_state"].shape[1] > 40


def test_later_assignments_are_those_of_one_process_too(folder):
    alone = two_processes.make()
    trained, other = of_both(folder, "trained")
    _same(trained, other)
    alone.load_state_dict(trained)
    alone.start_epoch(1, lambda: ToyLoader().everything(1))
    first, second = of_both(folder, "again")
    _same(first, second)
    _same(first, alone.state_dict())
    assert 0 < float(first["nmi"]) <= 1
