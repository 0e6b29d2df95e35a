from dataclasses import fields

import numpy as np
import pytest
import torch

from builders.frames import Frames, make_frame
from olivine.data.augment import CloudAugment
from olivine.data.loader import Loader
from olivine.data.needs import Needs
from olivine.data.prepare import Augmentation, Prepare
from olivine.data.voxelize import CartesianVoxels
from olivine.errors import UserError
from olivine.streams import number, stream

PREPARE = Prepare(CartesianVoxels(size_m=(1, 1, 1)), Augmentation(CloudAugment()), Needs(labels=True))


@pytest.fixture
def frames(tmp_path):
    return Frames([make_frame(tmp_path, points=50, seed=seed, sizes=()) for seed in range(10)])


def same(one, other):
    assert one.tokens == other.tokens
    assert one.seed == other.seed
    same_cloud(one.cloud, other.cloud)


def same_cloud(one, other):
    for field in fields(one):
        here, there = getattr(one, field.name), getattr(other, field.name)
        assert (here is None and there is None) or torch.equal(here, there)


def clouds_of(batch):
    return torch.tensor_split(batch.cloud.points_m, batch.cloud.point_offsets[1:-1])


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


def test_a_look_at_everything_shows_every_frame_once_in_file_order_as_in_training(frames):
    loader = Loader(frames, PREPARE, batch_size=4, seed=1)
    whole = list(loader.everything(2))
    assert [batch.samples.tolist() for batch in whole] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    trained = {batch.tokens[0]: batch.cloud.points_m[:50] for batch in loader.batches(2)}
    shown = {
        token: batch.cloud.points_m[50 * i : 50 * i + 50] for batch in whole for i, token in enumerate(batch.tokens)
    }
    assert all(torch.equal(shown[token], points) for token, points in trained.items())
    assert len(list(loader.batches(2))) == loader.steps == 2
    halves = [Loader(frames, PREPARE, batch_size=2, rank=rank, world=3) for rank in range(3)]
    shares = [[place for batch in half.everything(0) for place in batch.samples.tolist()] for half in halves]
    assert shares == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]


def test_a_batch_says_which_frames_of_the_dataset_it_holds(frames):
    loader = Loader(frames, PREPARE, batch_size=5, seed=1)
    for batch in loader.batches(0):
        assert tuple(frames.frames[place].token for place in batch.samples.tolist()) == batch.tokens


def test_second_views_show_neighbouring_frames_and_do_not_depend_on_workers(frames):
    prepare = Prepare(CartesianVoxels(size_m=(1, 1, 1)), needs=Needs(second="frame"))
    own = next(iter(Loader(frames, prepare, batch_size=10, seed=2).batches(0)))
    assert torch.equal(own.second.cloud.points_m, own.cloud.points_m)
    loaders = [Loader(frames, prepare, batch_size=10, seed=2, max_gap=2, workers=workers) for workers in (0, 1)]
    beside, helped = (next(iter(loader.batches(0))) for loader in loaders)
    same(beside, helped)
    same_cloud(beside.second.cloud, helped.second.cloud)
    for row, place in enumerate(beside.samples.tolist()):
        seen = beside.second.cloud.points_m[50 * row : 50 * row + 50].numpy()
        shown = [i for i, frame in enumerate(frames.frames) if np.array_equal(seen, frame.points_lidar_m)]
        assert 1 <= abs(shown[0] - place) <= 2


def test_what_a_sample_and_a_batch_draw_is_keyed_by_purpose_and_place(frames):
    """The order of the key's parts, and that looks between epochs draw for themselves, decide published numbers."""

    class Draws:
        def __call__(self, frame, rng, other=None):
            drawn.append(rng.integers(2**62))
            return PREPARE(frame, rng)

    drawn = []
    loader = Loader(frames, Draws(), batch_size=2, seed=3, rank=1, world=2)
    batches = list(loader.batches(5))
    samples = [place for batch in batches for place in batch.samples.tolist()]
    assert drawn == [stream("sample", 3, 5, place).integers(2**62) for place in samples]
    assert [batch.seed for batch in batches] == [number("batch", 3, 5, step, 1) for step in range(2)]
    assert [batch.seed for batch in loader.everything(5)][:1] == [number("look at a batch", 3, 5, 0, 1)]
    order = stream("order of frames", 3, 5).permutation(10)[:8].reshape(2, 2, 2)[:, 1]
    assert samples == order.reshape(-1).tolist()
