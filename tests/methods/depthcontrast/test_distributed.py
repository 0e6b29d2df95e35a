import pytest
import torch

from builders.processes import of_both, run_two
from methods.depthcontrast import two_processes

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_two(two_processes.run, tmp_path_factory.mktemp("two_processes"))


def test_two_processes_train_as_one_with_the_frames_of_both(folder):
    method = two_processes.voxel_method()
    two_processes.train(method, method, (two_processes.frames_of(step) for step in range(two_processes.STEPS)))
    for state in of_both(folder, "voxel"):
        for name, value in method.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-12, msg=name)


def test_both_formats_stay_alike_on_both_processes(folder):
    first, second = of_both(folder, "both")
    own = {name for name in first if "running_" in name or "num_batches" in name}  # batch norm is not synchronised
    for name in first.keys() - own:
        assert torch.equal(first[name], second[name]), name
    for name in ("voxel", "point"):
        assert int(first[f"queues.{name}.filled"]) == 7
        assert int(first[f"queues.{name}.pointer"]) == 2 * 2 * two_processes.STEPS % 7
