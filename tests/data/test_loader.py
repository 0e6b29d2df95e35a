from dataclasses import fields

import numpy as np
import pytest
import torch

from builders.frames import Frames, make_frame
from olivine.data.augment import CloudAugment
from olivine.data.loader import Loader
from olivine.data.prepare import Prepare
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import UserError

PREPARE = Prepare(CartesianVoxels(size_m=(1, 1, 1)), CloudAugment(), labels=True)


@pytest.fixture
def frames(tmp_path):
    return Frames([make_frame(tmp_path, points=50, seed=seed, sizes=()) for seed in range(10)])


def same(one, other):
    assert one.tokens == other.tokens
    assert one.seed == other.seed
    for field in fields(one.cloud):
        assert torch.equal(getattr(one.cloud, field.name), getattr(other.cloud, field.name))


def test_an_epoch_shows_every_frame_once_in_an_order_of_its_own(frames):
    loader = Loader(frames, PREPARE, batch_size=2, seed=1)
    first = [token for batch in loader.batches(0) for token in batch.tokens]
    second = [token for batch in loader.batches(1) for token in batch.tokens]
    assert loader.steps == 5
    assert sorted(first) == sorted(second) == sorted(frame.token for frame in frames.frames)
    assert first != second


def test_a_frame_is_augmented_anew_in_every_epoch(frames):
    loader = Loader(frames, PREPARE, batch_size=1, seed=1)
    first, second = ({batch.tokens: batch.cloud.points_m for batch in loader.batches(epoch)} for epoch in (0, 1))
    assert not any(torch.equal(first[token], second[token]) for token in first)


def test_starting_later_gives_the_same_batches_without_reading_the_skipped_frames(frames):
    loader = Loader(frames, PREPARE, batch_size=3, seed=1)
    whole = list(loader.batches(2))
    frames.reads.clear()
    rest = list(loader.batches(2, start=1))
    assert len(frames.reads) == 6
    for one, other in zip(whole[1:], rest, strict=True):
        same(one, other)


def test_workers_do_not_change_the_batches(frames):
    alone = list(Loader(frames, PREPARE, batch_size=4, seed=3).batches(1))
    helped = list(Loader(frames, PREPARE, batch_size=4, seed=3, workers=1).batches(1))
    assert len(alone) == 2
    for one, other in zip(alone, helped, strict=True):
        same(one, other)


def test_processes_share_a_global_batch_whatever_their_number(frames):
    single = Loader(frames, PREPARE, batch_size=4, seed=3)
    ranks = [Loader(frames, PREPARE, batch_size=2, seed=3, rank=rank, world=2) for rank in range(2)]
    assert ranks[0].steps == single.steps == 2
    for whole, left, right in zip(single.batches(5), ranks[0].batches(5), ranks[1].batches(5), strict=True):
        assert set(whole.tokens) == set(left.tokens) | set(right.tokens)
        assert left.seed != right.seed
        index = whole.tokens.index(left.tokens[0])
        start, stop = whole.cloud.point_offsets[index : index + 2]
        assert torch.equal(left.cloud.points_m[:50], whole.cloud.points_m[start:stop])


def test_evaluation_keeps_file_order_and_the_incomplete_batch(frames):
    loader = Loader(frames, PREPARE, batch_size=4, shuffle=False)
    assert loader.steps == 3
    tokens = [token for batch in loader.batches(0) for token in batch.tokens]
    assert tokens == [frame.token for frame in frames.frames]
    halves = [Loader(frames, PREPARE, batch_size=4, shuffle=False, rank=rank, world=3) for rank in range(3)]
    shared = [token for loader in halves for batch in loader.batches(0) for token in batch.tokens]
    assert sorted(shared) == sorted(tokens)


def test_a_batch_larger_than_the_split_is_a_users_mistake(frames):
    with pytest.raises(UserError, match="batch_size: one step takes 16 frames but the split holds 10"):
        Loader(frames, PREPARE, batch_size=16)


def test_the_global_generators_are_left_alone(frames):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the legacy global state is what must not move
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    list(Loader(frames, PREPARE, batch_size=2).batches(0))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
