import pytest
import torch
from torch import multiprocessing

from methods.pointcontrast import two_processes

pytestmark = pytest.mark.distributed


def test_training_with_a_process_that_has_no_matches_keeps_both_alike(tmp_path):
    multiprocessing.spawn(two_processes.run, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    learned = [name for name in first if "running_" not in name and "num_batches" not in name]
    assert learned
    for name in learned:  # batch norm is not synchronised
        assert torch.equal(first[name], second[name]), name
