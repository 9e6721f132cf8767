"""Flips and crops: what they do to a picture, how often, and from which randomness."""

import numpy as np
import pytest
import torch

from mdtree.augmentation import AUGMENTATIONS, augment, check_augmentation, draw
from mdtree.errors import InputError


@pytest.fixture
def images():
    return torch.arange(2 * 3 * 16 * 8, dtype=torch.float32).reshape(2, 3, 16, 8) + 1


def augmented(images, flipped, shift):
    n = len(images)
    return augment(images, torch.full((n,), flipped), torch.tensor(shift).expand(n, 2))


def test_without_flip_and_shift_the_picture_stays(images):
    assert torch.equal(augmented(images, False, [0, 0]), images)


def test_a_flip_mirrors_left_to_right(images):
    assert torch.equal(augmented(images, True, [0, 0]), images.flip(3))


def test_a_shift_moves_the_window_and_lets_zeros_in(images):
    moved = augmented(images, False, [2, -1])
    assert torch.equal(moved[:, :, :14, 1:], images[:, :, 2:, :7])
    assert not moved[:, :, 14:].any()
    assert not moved[:, :, :, 0].any()


def test_the_window_is_mirrored_after_it_was_moved(images):
    assert torch.equal(augmented(images, True, [-2, 1]), augmented(images, False, [-2, 1]).flip(3))


def test_every_sample_has_its_own_draw(images):
    both = augment(images, torch.tensor([True, False]), torch.tensor([[0, 0], [1, 1]]))
    assert torch.equal(both[0], images[0].flip(2))
    assert torch.equal(both[1], augmented(images[1:], False, [1, 1])[0])


def test_half_the_samples_are_flipped_and_all_shifts_are_equally_likely():
    draws = draw("flip_crop", seed=3, steps=200, batch=50, size=(16, 8))
    assert draws.flipped.double().mean() == pytest.approx(0.5, abs=0.02)
    for axis, reach in ((0, 2), (1, 1)):
        shifts, counts = draws.shifts[..., axis].unique(return_counts=True)
        assert shifts.tolist() == list(range(-reach, reach + 1))
        assert (counts / 10_000).tolist() == pytest.approx([1 / (2 * reach + 1)] * (2 * reach + 1), abs=0.02)


def test_flip_and_crop_alone_draw_what_they_draw_together():
    both, flip, crop = (draw(name, 5, 20, 8, (32, 32)) for name in ("flip_crop", "flip", "crop"))
    assert torch.equal(both.flipped, flip.flipped)
    assert not flip.shifts.any()
    assert torch.equal(both.shifts, crop.shifts)
    assert not crop.flipped.any()


def test_the_draws_come_from_the_seed_and_from_no_shared_generator():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (draw("flip_crop", seed, 20, 8, (32, 32)) for seed in (1, 1, 2))
    assert torch.equal(first.shifts, again.shifts)
    assert torch.equal(first.flipped, again.flipped)
    assert not torch.equal(first.shifts, other.shifts)
    assert not torch.equal(first.flipped, other.flipped)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_a_shorter_training_has_the_beginning_of_a_longer_ones_draws():
    short, long = (draw("flip_crop", 1, steps, 8, (32, 32)) for steps in (5, 20))
    assert torch.equal(short.flipped, long.flipped[:5])
    assert torch.equal(short.shifts, long.shifts[:5])


@pytest.mark.parametrize(
    ("augmentation", "shape", "said"),
    [
        ("flip", (10, 64), r"inputs of shape \(10, 64\); expected images"),
        ("crop", (10, 1, 7, 9), "images of 7×9 pixels; expected 8×8 or more"),
        ("rotate", (10, 1, 8, 8), "expected one of none, flip, crop, flip_crop"),
    ],
)
def test_what_cannot_be_augmented_is_refused(augmentation, shape, said):
    with pytest.raises(InputError, match=said):
        check_augmentation(augmentation, torch.zeros(shape))


def test_images_of_eight_pixels_take_every_augmentation_and_vectors_none():
    for augmentation in AUGMENTATIONS:
        check_augmentation(augmentation, torch.zeros(10, 1, 8, 8))
    check_augmentation("flip", torch.zeros(10, 1, 4, 4))
    check_augmentation("none", torch.zeros(10, 64))
