import pytest
import torch
from torch import multiprocessing

from methods import two_gathering
from methods.two_gathering import rows_of
from olivine.methods.parts.gather import gather_rows, world_size


def test_one_process_gathers_its_own_rows():
    rows = torch.rand(3, 2, requires_grad=True)
    assert gather_rows(rows) is rows
    assert world_size() == 1


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_gathering")
    multiprocessing.spawn(two_gathering.run, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.distributed
def test_rows_of_two_processes_come_in_the_order_of_their_ranks(results):
    for step in range(two_gathering.STEPS):
        expected = torch.cat([rows_of(step, rank) for rank in range(2)])
        for result in results:
            assert torch.equal(result["gathered"][step], expected)


@pytest.mark.distributed
def test_gradients_stay_with_a_processes_own_rows(results):
    for rank, result in enumerate(results):
        start = len(rows_of(0, 0)) * rank
        expected = torch.arange(start, start + len(rows_of(0, rank)))[:, None].expand(-1, 3)
        assert torch.equal(result["gradient"], expected.double())


@pytest.mark.distributed
def test_whole_numbers_gather_too(results):
    assert [result["labels"].tolist() for result in results] == [[0, 10, 11]] * 2


@pytest.mark.distributed
def test_the_queue_of_two_processes_is_that_of_one_with_all_their_rows(results):
    alone = two_gathering.queue_of(torch.cat([rows_of(step, rank) for rank in range(2)]) for step in range(3))
    for result in results:
        for name, value in alone.state_dict().items():
            assert torch.equal(result["queue"][name], value), name
