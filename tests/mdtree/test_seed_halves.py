"""Labels of two halves of the seeds: which halves, what each says, and how often they agree."""

import numpy as np
import pytest
import test_room
from test_room import bowl

from mdtree.room import label_zoo
from mdtree.seed_halves import MOST_SPLITS, half_agreement, half_splits
from mdtree.zoo import GAIN_COLUMN, QUESTIONS


def a_zoo(error, noise=0.0):
    """The grid of `test_room`, its temperature axis turned by the learning rate at one batch size."""
    return test_room.a_zoo(error, noise).assign(batch_size=16, learning_rate=lambda rows: 16 * rows["temperature"])


def questions(frame):
    return {q.question: q for q in half_agreement(frame).questions}


def test_all_splits_of_few_seeds():
    assert half_splits(2) == [((0,), (1,))]
    assert half_splits(3) == [((0,), (1, 2)), ((1,), (0, 2)), ((2,), (0, 1))]
    assert half_splits(4) == [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    assert len(half_splits(5)) == len(half_splits(6)) == 10


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 6, 7, 12])
def test_halves_are_disjoint_and_whole_and_no_split_comes_twice(seeds):
    splits = half_splits(seeds)
    assert len({frozenset(split) for split in splits}) == len(splits) <= MOST_SPLITS
    for one, other in splits:
        assert sorted((*one, *other)) == list(range(seeds))
        assert (len(one), len(other)) == (seeds // 2, seeds - seeds // 2)
    assert half_splits(seeds) == splits


def test_without_noise_both_halves_say_the_same_and_abstain_only_where_the_zoo_does():
    frame = a_zoo(bowl)
    found = questions(frame)
    cells = label_zoo(frame).groupby("cell").first()
    for name in QUESTIONS:
        labels = cells[f"label_{name}"]
        known, clear = (labels != "censored").sum(), (~labels.isin(["censored", "ambiguous"])).sum()
        assert found[name].agree == 1.0
        assert found[name].cells == clear
        assert found[name].abstain == pytest.approx(1 - clear / known)


def test_halves_that_contradict_each_other_do_not_agree():
    frame = a_zoo(bowl)
    # hot is best for seeds 0 and 1, cold for 2 and 3: at the middle rate the split {0, 1}, {2, 3} has two clear
    # answers that differ, and in every other split both halves are torn
    first = frame["seed"].isin([0, 1])
    frame.loc[first & (frame["temperature"] == 1.0), GAIN_COLUMN] -= 60.0
    frame.loc[~first & (frame["temperature"] == 0.01), GAIN_COLUMN] -= 50.0
    found = questions(frame)["temperature"]
    assert (found.agree, found.cells) == (0.0, 9 / 3)


def test_noise_makes_halves_abstain():
    calm, noisy = questions(a_zoo(bowl, 0.01))["verdict"], questions(a_zoo(bowl, 5.0))["verdict"]
    assert noisy.abstain > 0.1 > calm.abstain == 0.0
    assert noisy.agree < calm.agree == 1.0


def test_a_half_of_one_seed_counts_the_margin_in_points_alone():
    frame = a_zoo(bowl)
    found = half_agreement(frame[frame["seed"] < 3])
    assert (found.sizes, found.splits) == ((1, 2), 3)
    assert {q.question: q.agree for q in found.questions} == dict.fromkeys(QUESTIONS, 1.0)
    # 0.4 points of data is under both margins in every half: nobody names data at the middle size
    assert [q.cells for q in found.questions] == [q.cells for q in half_agreement(frame).questions]


def test_means_over_seeds_have_no_halves():
    frame = a_zoo(bowl)
    frame = frame[frame["seed"] == 0].assign(seed=np.nan)
    assert half_agreement(frame) is None


def test_equal_tables_give_equal_figures():
    assert half_agreement(a_zoo(bowl, 2.0)) == half_agreement(a_zoo(bowl, 2.0))
