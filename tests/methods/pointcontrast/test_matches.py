import torch

from olivine.methods.pointcontrast import draw_matches

MATCH = torch.tensor([[4, 0], [2, 1], [4, 2], [4, 3], [7, 3], [2, 5], [9, 9]])


def _drawn(count, seed):
    return draw_matches(MATCH, count, torch.Generator().manual_seed(seed)).tolist()


def test_every_voxel_of_the_first_view_is_drawn_once_with_a_match_of_its_own():
    drawn = _drawn(100, 0)
    assert sorted(first for first, _ in drawn) == [2, 4, 7, 9]
    assert all(pair in MATCH.tolist() for pair in drawn)


def test_fewer_are_distinct_and_follow_the_generator():
    assert len(_drawn(2, 0)) == 2
    assert _drawn(3, 1) == _drawn(3, 1)
    assert any(_drawn(3, seed) != _drawn(3, 1) for seed in range(2, 6))


def test_each_match_of_a_voxel_and_each_voxel_is_as_likely_as_another():
    trials = 3000
    partner, voxel = dict.fromkeys((0, 2, 3), 0), dict.fromkeys((2, 4, 7, 9), 0)
    for seed in range(trials):
        drawn = dict(_drawn(2, seed))
        for first in drawn:
            voxel[first] += 1
        if 4 in drawn:
            partner[drawn[4]] += 1
    assert all(abs(count / trials - 1 / 2) < 0.04 for count in voxel.values())
    assert all(abs(count / sum(partner.values()) - 1 / 3) < 0.06 for count in partner.values())


def test_the_order_of_the_matches_is_no_preference():
    forth, back = ([0, 0] for _ in range(2))
    pair = torch.tensor([[0, 0], [0, 1]])
    for seed in range(400):
        for counts, match in ((forth, pair), (back, pair.flip(0))):
            counts[draw_matches(match, 1, torch.Generator().manual_seed(seed))[0, 1]] += 1
    assert all(140 < count < 260 for count in forth + back)


def test_no_matches_give_none():
    assert draw_matches(MATCH[:0], 5, torch.Generator()).shape == (0, 2)
