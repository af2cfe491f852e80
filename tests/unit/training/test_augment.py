"""Augmentation keeps type, range and meaning, repeats with its seed, and strikes every class alike."""

import numpy as np
import numpy.typing as npt
import pytest

from training.augment import Augmentation, augment, mix, view_batch

OFF = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))


def image(side: int = 64) -> npt.NDArray[np.uint8]:
    """A bright square left of the middle on grey tissue: uint8 (side, side)."""
    found = np.zeros((side, side), np.uint8)
    found[8:-8, 8:-8] = 80
    found[28:36, 16:24] = 250
    return found


def test_switched_off_it_only_scales() -> None:
    view = augment(image(), 64, OFF, np.random.default_rng(1))

    assert np.allclose(view, image().astype(np.float32) / 255, atol=1e-6)


def test_all_changes_at_full_rate_stay_in_range() -> None:
    full = Augmentation(**{n: 1.0 for n in Augmentation.__dataclass_fields__ if n.endswith("_rate")})
    for seed in range(60):
        view = augment(image(), 48, full, np.random.default_rng(seed))
        assert view.shape == (48, 48)
        assert view.dtype == np.float32
        assert np.isfinite(view).all()
        assert view.min() >= 0
        assert view.max() <= 1


def test_the_seed_decides() -> None:
    first = augment(image(), 64, Augmentation(), np.random.default_rng(5))

    assert np.array_equal(first, augment(image(), 64, Augmentation(), np.random.default_rng(5)))
    assert not np.array_equal(first, augment(image(), 64, Augmentation(), np.random.default_rng(6)))


def test_mirroring_swaps_left_and_right_only() -> None:
    mirror = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0) | {"flip_rate": 1.0})
    view = augment(image(), 64, mirror, np.random.default_rng(1))

    assert np.allclose(view, image()[:, ::-1].astype(np.float32) / 255, atol=1e-6)


def test_intensities_are_never_inverted() -> None:
    for seed in range(100):
        view = augment(image(), 64, Augmentation(erase_rate=0, marks_rate=0), np.random.default_rng(seed))
        bright, tissue = np.percentile(view, 99.5), np.median(view[view > 0.02])
        assert bright >= tissue


@pytest.mark.parametrize("name", ["marks_rate", "erase_rate", "trim_rate", "jpeg_rate", "degrade_rate", "noise_rate"])
def test_each_change_changes_something(name: str) -> None:
    settings = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0) | {name: 1.0})
    full = np.maximum(image(), 60)  # tissue up to the edge, so that a cut strip shows
    plain = full.astype(np.float32) / 255
    changed = [np.abs(augment(full, 64, settings, np.random.default_rng(s)) - plain).max() > 0.004 for s in range(10)]

    assert sum(changed) >= 8


def test_a_batch_has_a_channel() -> None:
    views = view_batch(np.stack([image()] * 3), 32, Augmentation(), np.random.default_rng(1))

    assert views.shape == (3, 32, 32, 1)
    assert not np.array_equal(views[0], views[1])


def test_mixing_keeps_the_sum_of_targets_and_the_larger_share() -> None:
    rng = np.random.default_rng(3)
    images = np.stack([np.full((4, 4, 1), value, np.float32) for value in (0, 1)])
    targets = np.eye(2, dtype=np.float32)
    for _ in range(20):
        mixed, shares = mix(images, targets, 0.4, 1.0, rng)
        assert np.allclose(shares.sum(axis=1), 1)
        assert (np.diag(shares) >= 0.5 - 1e-6).all()
        assert np.allclose(mixed[:, 0, 0, 0], shares[:, 1], atol=1e-6)


def test_mixing_can_be_off() -> None:
    images, targets = np.zeros((2, 4, 4, 1), np.float32), np.eye(2, dtype=np.float32)

    assert mix(images, targets, 0.0, 1.0, np.random.default_rng(1))[0] is images
    assert mix(images, targets, 0.3, 0.0, np.random.default_rng(1))[0] is images
