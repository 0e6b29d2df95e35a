import pytest
import torch
from torch import nn

from olivine.points.layers import RowNorm, mlp


def test_layers_come_in_the_order_of_their_sizes():
    head = mlp([5, 4, 3, 2], batch_norm=False)
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)] == [
        (5, 4),
        (4, 3),
        (3, 2),
    ]
    assert head(torch.rand(7, 5)).shape == (7, 2)


def test_normalisations_stand_where_they_are_asked_for_and_take_the_place_of_a_bias():
    head = mlp([5, 4, 2], batch_norm=True, last_norm=True)
    assert [type(layer) for layer in head] == [nn.Linear, RowNorm, nn.ReLU, nn.Linear, RowNorm]
    assert all(layer.bias is None for layer in head if isinstance(layer, nn.Linear))
    plain = mlp([5, 4, 2], batch_norm=True)
    assert [type(layer) for layer in plain] == [nn.Linear, RowNorm, nn.ReLU, nn.Linear]
    assert plain[3].bias is not None


def test_layers_share_nothing():
    head = mlp([4, 4, 4, 4], batch_norm=True)
    assert len({id(layer) for layer in head}) == len(head)


def test_row_norm_is_batch_norm_for_two_rows_or_more():
    torch.manual_seed(0)
    mine, theirs, rows = RowNorm(3), nn.BatchNorm1d(3), torch.randn(6, 3)
    assert torch.equal(mine(rows), theirs(rows))
    assert torch.equal(mine.running_var, theirs.running_var)
    assert torch.equal(mine.eval()(rows), theirs.eval()(rows))


@pytest.mark.parametrize("count", [0, 1])
def test_row_norm_takes_fewer_rows_than_have_a_variance(count):
    norm, rows = RowNorm(3), torch.full((count, 3), 5.0, requires_grad=True)
    out = norm(rows)
    torch.testing.assert_close(out, rows / (1 + norm.eps) ** 0.5)
    assert torch.equal(norm.running_mean, torch.zeros(3))
    out.sum().backward()
    assert torch.isfinite(rows.grad).all()


def test_an_mlp_without_an_output_is_refused():
    with pytest.raises(ValueError, match=r"channels=\[3\]"):
        mlp([3], batch_norm=False)
