"""Batches that are moved: what stays on the host, and how images travel."""

from dataclasses import replace

import torch

from olivine.data.batch import in_numbers
from olivine.testing.elsewhere import NAME, Pretended
from olivine.toys import toy_batch


def test_images_travel_as_bytes_and_arrive_as_numbers():
    batch = replace(toy_batch(), images=torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8))
    expected = batch.images.float().div_(255)
    assert torch.equal(batch.to("cpu").images, expected)
    assert in_numbers(expected) is expected
    with Pretended() as away:
        moved = batch.to(away.device)
        assert away.waits == []
        assert moved.images.dtype == torch.float32
        assert torch.equal(moved.images.cpu(), expected)


def test_what_was_moved_knows_where_it_came_from():
    batch = toy_batch()
    assert batch.host is batch
    with Pretended() as away:
        moved = batch.to(away.device)
        assert {tensor.device.type for tensor in moved.tensors()} == {NAME}
        assert moved.host is batch
        assert moved.cloud.host is batch.cloud
        assert moved.second.cloud.host is batch.second.cloud
        assert away.waits == []
        assert moved.to(away.device).host.samples.tolist() == batch.samples.tolist()


def test_what_was_changed_on_a_device_is_copied_and_that_is_meant():
    batch = toy_batch()
    with Pretended() as away:
        moved = batch.to(away.device)
        changed = replace(moved.pairs, label=moved.pairs.label + 1)
        assert torch.equal(changed.host.label, batch.pairs.label + 1)
        assert changed.host is changed.host
        assert away.unmeant == []
        assert set(away.meant) == {"a batch that was made on a device"}


def test_pinned_batches_are_the_same():
    batch = toy_batch()
    with Pretended():
        for pinned, plain in zip(batch.pin_memory().tensors(), batch.tensors(), strict=True):
            assert pinned.is_pinned()
            assert torch.equal(pinned, plain)
