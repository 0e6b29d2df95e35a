import numpy as np
import pytest
import torch

from builders.processes import of_both, run_two
from methods.olivine import two_processes
from methods.olivine.two_processes import ALPHA, CLASSES, DIM, STEPS, step_input
from oracles import vmf as oracle

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_two(two_processes.run, tmp_path_factory.mktemp("two_processes"))


def test_class_means_are_averaged_over_the_processes_that_saw_the_class(folder):
    steps = [[tuple(part.numpy() for part in step_input(step, rank)) for rank in range(2)] for step in range(STEPS)]
    expected = oracle.averages(steps, CLASSES, DIM, ALPHA)
    for state in of_both(folder, "statistics"):
        np.testing.assert_allclose(state["z"].numpy(), expected, rtol=1e-12, atol=1e-15)
        assert state["updates"].tolist() == [3, 2, 3, 1, 0]


def test_a_class_that_one_process_sees_has_the_statistics_of_that_process_alone(folder):
    alone = oracle.averages(
        [[tuple(part.numpy() for part in step_input(step, 1))] for step in range(STEPS)], CLASSES, DIM, ALPHA
    )
    np.testing.assert_allclose(of_both(folder, "statistics")[0]["z"].numpy()[2:4], alone[2:4], rtol=1e-12, atol=1e-15)


def test_training_with_a_process_that_has_no_pairs_keeps_both_alike(folder):
    first, second = of_both(folder, "method")
    own = {name for name in first if "running_" in name or "num_batches" in name}  # batch norm is not synchronised
    for name in first.keys() - own:
        assert torch.equal(first[name], second[name]), name
    assert first["supervision.statistics.updates"].tolist() == [1, 1, 1, 1]
