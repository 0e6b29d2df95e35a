import pytest
import torch
from torch import multiprocessing

from methods.strl import two_processes
from methods.strl.two_processes import STEPS
from olivine.testing.toy_runs import toy_frames

pytestmark = pytest.mark.distributed


def test_two_processes_of_one_frame_train_as_one_of_two(tmp_path):
    multiprocessing.spawn(two_processes.run, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"method{rank}.pt", weights_only=True) for rank in range(2))
    alone = two_processes.make()
    start = alone.state_dict()["target_backbone.module.backbone.layers.0.weight"].clone()
    two_processes.train(alone, alone, [toy_frames(step, [0, 1]) for step in range(STEPS)])
    for name, value in alone.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)
    assert not torch.equal(first["target_backbone.module.backbone.layers.0.weight"], start)
