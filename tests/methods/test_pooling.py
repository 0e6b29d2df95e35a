import pytest
import torch

from olivine.methods.parts.pooling import pool_frames


def _slow(features, frame, frames, how):
    """One frame and one channel after another."""
    out = torch.zeros(frames, features.shape[1], dtype=features.dtype)
    for b in range(frames):
        for d in range(features.shape[1]):
            values = [features[v, d] for v in range(len(features)) if frame[v] == b]
            if values:
                out[b, d] = max(values) if how == "max" else sum(values) / len(values)
    return out


@pytest.mark.parametrize("how", ["max", "mean"])
@pytest.mark.parametrize("ordered", [True, False])
def test_pooling_equals_a_loop_with_its_gradient(how, ordered):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(23, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    frame = torch.randint(3, (23,), generator=generator)
    frame[frame == 1] = 3  # frame 1 is empty
    frame = frame.sort().values if ordered else frame
    weights = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    mine, slow = pool_frames(features, frame, 4, how), _slow(features, frame, 4, how)
    torch.testing.assert_close(mine, slow, rtol=1e-12, atol=1e-15)
    assert mine[1].tolist() == [0, 0, 0, 0]
    ours, theirs = (torch.autograd.grad((pooled * weights).sum(), features)[0] for pooled in (mine, slow))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("how", ["max", "mean"])
def test_no_rows_at_all_give_zeros_with_a_graph(how):
    features = torch.zeros(0, 3, requires_grad=True)
    pooled = pool_frames(features, torch.zeros(0, dtype=torch.int64), 2, how)
    assert pooled.tolist() == [[0, 0, 0]] * 2
    pooled.sum().backward()


def test_the_largest_of_negative_values_is_negative():
    assert pool_frames(torch.tensor([[-3.0], [-2.0]]), torch.tensor([0, 0]), 1).tolist() == [[-2.0]]


def test_means_of_half_precision_features_are_taken_in_single_precision():
    features = torch.full((4096, 1), 1.001).to(torch.bfloat16)
    pooled = pool_frames(features, torch.zeros(4096, dtype=torch.int64), 1, "mean")
    assert pooled.dtype == torch.float32
    assert float(pooled) == float(features[0])
