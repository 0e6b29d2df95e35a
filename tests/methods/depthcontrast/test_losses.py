import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from olivine.methods.depthcontrast import scene_contrast
from oracles import depthcontrast as oracle


def _rows(count, seed, dtype=torch.float64):
    return normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=dtype))


@pytest.mark.parametrize(("scenes", "negatives"), [(1, 1), (4, 9), (3, 0)])
def test_the_loss_and_its_gradient_are_the_formula(scenes, negatives):
    query, key, others = _rows(scenes, 0).requires_grad_(), _rows(scenes, 1), _rows(negatives, 2)
    loss = scene_contrast(query, key, others, 0.1)
    loss.backward()
    arrays = [part.detach().numpy() for part in (query, key, others)]
    assert float(loss.detach()) == pytest.approx(oracle.loss(*arrays, 0.1), rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(query.grad.numpy(), oracle.gradient(*arrays, 0.1), rtol=1e-9, atol=1e-14)


def test_without_negatives_there_is_nothing_to_learn():
    query = _rows(2, 0).requires_grad_()
    loss = scene_contrast(query, _rows(2, 1), _rows(0, 2), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not query.grad.any()


def test_negatives_as_near_as_the_key_give_the_logarithm_of_their_number():
    rows = _rows(1, 0)
    assert float(scene_contrast(rows, rows, rows.expand(7, -1), 0.1)) == pytest.approx(math.log(8), rel=1e-12)


def test_half_precision_is_compared_in_single_precision():
    query, key, others = (_rows(count, seed, torch.float32) for count, seed in ((3, 0), (3, 1), (50, 2)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = scene_contrast(query, key, others, 0.1)
    assert torch.equal(mixed, scene_contrast(query, key, others, 0.1))
    assert scene_contrast(query.bfloat16(), key, others, 0.1).dtype == torch.float32
