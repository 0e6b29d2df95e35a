"""Rows read by index: the numbers of plain indexing, and gradients that repeat."""

import pytest
import torch
from torch import Tensor

from olivine.host import threads
from olivine.rows import mix_rows, take_rows
from olivine.testing.elsewhere import Pretended
from olivine.testing.order import FixedOrder


def drawn(rows: int, count: int, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(rows, channels, generator=generator).to(dtype).requires_grad_()
    return (
        values,
        torch.randint(rows, (count,), generator=generator),
        torch.randn(count, channels, generator=generator).to(dtype),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_taken_rows_are_those_of_indexing_and_gradients_are_summed_in_order(dtype, count):
    rows, index, grad = drawn(7, count, 3, dtype)
    taken = take_rows(rows, index)
    assert torch.equal(taken, rows[index])
    taken.backward(grad)
    expected = torch.zeros(7, 3, dtype=dtype)
    for place, each in zip(index, grad, strict=True):
        expected[place] += each
    assert torch.equal(rows.grad, expected)


def test_sums_of_half_precision_are_rounded_once():
    rows, index, grad = drawn(7, 50, 3, torch.bfloat16)
    take_rows(rows, index).backward(grad)
    expected = torch.zeros(7, 3, dtype=torch.float64).index_add(0, index, grad.double())
    torch.testing.assert_close(rows.grad, expected.to(torch.bfloat16), rtol=2**-8, atol=0)


def test_gradients_of_many_rows_repeat_to_the_bit_on_all_threads():
    rows, index, grad = drawn(50, 20_000, 16, torch.float32)
    with threads(2):
        first, *others = (torch.autograd.grad(take_rows(rows, index), rows, grad)[0] for _ in range(5))
    assert all(torch.equal(first, other) for other in others)


def test_on_a_device_no_sum_is_left_to_chance():
    rows, index, grad = drawn(7, 50, 3, torch.float32)
    with Pretended() as pretended:
        moved = rows.detach().to(pretended.device).requires_grad_()
        take_rows(moved, index.to(pretended.device)).backward(grad.to(pretended.device))
        found = moved.grad.cpu()
    assert pretended.chance == []
    torch.testing.assert_close(found, torch.zeros(7, 3).index_add(0, index, grad))


def test_a_row_that_is_not_there_is_refused():
    with pytest.raises(IndexError):
        take_rows(torch.zeros(3, 2), torch.tensor([-1]))


def test_mixed_rows_are_weighted_sums_and_their_gradients_too():
    rows, index, grad = drawn(7, 40, 3, torch.float64)
    index, grad = index.view(10, 4), grad[:10]
    share = torch.rand(10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mixed = mix_rows(rows, index, share)
    expected = torch.stack(
        [sum(share[p, k] * rows[index[p, k]] for k in range(4)) for p in range(10)],  # type: ignore[misc]
    )
    torch.testing.assert_close(mixed, expected)
    torch.testing.assert_close(torch.autograd.grad(mixed, rows, grad)[0], torch.autograd.grad(expected, rows, grad)[0])


CHANCE = {
    "index": lambda x, i: x[i],
    "two indices": lambda x, i: x[i, i % 3],
    "put": lambda x, i: torch.zeros(7, 3).index_put((i,), x[:1].expand(len(i), -1), accumulate=True),
    "take": lambda x, i: x.take(i),
}


@pytest.mark.parametrize("read", CHANCE.values(), ids=CHANCE)
def test_what_threads_add_up_is_found_with_its_line(read):
    rows, index, _ = drawn(7, 50, 3, torch.float32)
    with FixedOrder() as order:
        read(rows, index).sum().backward()
    assert order.chance


FIXED = {
    "rows": take_rows,
    "mask": lambda x, _: x[x.detach().sum(1) > 0],
    "slice": lambda x, _: x[1:3],
    "without a gradient": lambda x, i: x * x.detach()[i][0],
    "embedding": lambda x, i: torch.nn.functional.embedding(i, x),
}


@pytest.mark.parametrize("read", FIXED.values(), ids=FIXED)
def test_what_has_an_order_is_not_reported(read):
    rows, index, _ = drawn(7, 50, 3, torch.float32)
    with FixedOrder() as order:
        read(rows, index).sum().backward()
    assert order.chance == []


CHANCE_ON_A_GPU = {
    "select": lambda x, i: x.index_select(0, i),
    "add": lambda x, i: torch.zeros_like(x).index_add(0, i, x[:1].expand(len(i), -1)),
    "scatter": lambda x, i: torch.zeros_like(x).scatter_add(0, i[:, None].expand(-1, 3), x[:1].expand(len(i), -1)),
    "cumsum": lambda x, _: x.cumsum(0),
    "largest of a bag": lambda x, i: torch.nn.functional.embedding_bag(i[:, None], x, mode="max"),
    "pooling": lambda x, _: torch.nn.functional.max_pool2d(x[None, None], 2, stride=1),
    "upsampling": lambda x, _: torch.nn.functional.interpolate(x[None, None], scale_factor=2, mode="bilinear"),
}


@pytest.mark.parametrize("read", CHANCE_ON_A_GPU.values(), ids=CHANCE_ON_A_GPU)
def test_what_a_gpu_adds_as_it_comes_is_found(read):
    rows, index, _ = drawn(7, 50, 3, torch.float32)
    with Pretended() as pretended:
        moved = rows.detach().to(pretended.device).requires_grad_()
        read(moved, index.to(pretended.device)).sum().backward()
    assert pretended.chance


FIXED_ON_A_GPU = {
    "each once": lambda x, _: x.index_select(0, torch.arange(7).to(x.device)),
    "sums of bags": lambda x, i: torch.nn.functional.embedding_bag(i[:, None], x, mode="sum"),
    "largest": lambda x, i: x * x.detach().scatter_reduce(0, i[:, None].expand(-1, 3), x.detach()[i], "amax"),
    "counts": lambda x, i: x * torch.zeros(7, dtype=torch.long).to(x.device).scatter_add(0, i, i)[:, None],
}


@pytest.mark.parametrize("read", FIXED_ON_A_GPU.values(), ids=FIXED_ON_A_GPU)
def test_what_has_an_order_on_a_gpu_is_not_reported(read):
    rows, index, _ = drawn(7, 50, 3, torch.float32)
    with Pretended() as pretended:
        moved = rows.detach().to(pretended.device).requires_grad_()
        read(moved, index.to(pretended.device)).sum().backward()
    assert pretended.chance == []
