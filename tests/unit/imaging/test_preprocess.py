"""`imaging.preprocess`: the head is found, source cues go, nothing breaks it."""

import json
import time

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from imaging.preprocess import Preprocessing, PreprocessingError, prepare

Float32 = npt.NDArray[np.float32]
STANDARD = Preprocessing()


def head(
    height: int = 300, width: int = 300, centre: tuple[int, int] = (150, 150), radii: tuple[int, int] = (80, 100)
) -> Float32:
    """An ellipse of tissue with a bright rim and a darker inside on black, float32 (h, w) in [0, 1]."""
    picture = np.zeros((height, width), np.float32)
    cv2.ellipse(picture, centre, radii, 0, 0, 360, 0.9, -1)
    cv2.ellipse(picture, centre, (radii[0] - 10, radii[1] - 10), 0, 0, 360, 0.35, -1)
    cv2.circle(picture, (centre[0] + 20, centre[1]), 15, 0.6, -1)
    return picture


def test_output_has_the_asked_size_type_and_range() -> None:
    prepared = prepare(head(), Preprocessing(size=96))

    assert prepared.image.shape == (96, 96)
    assert prepared.image.dtype == np.float32
    assert prepared.image.min() >= 0
    assert 0.95 < prepared.image.max() <= 1
    assert not prepared.blank


def test_crop_is_a_square_around_the_head_with_a_margin() -> None:
    box = prepare(head(centre=(120, 160)), STANDARD).box

    assert box.x1 - box.x0 == box.y1 - box.y0
    assert 200 <= box.y1 - box.y0 <= 216
    assert abs((box.x0 + box.x1) / 2 - 120) <= 4
    assert abs((box.y0 + box.y1) / 2 - 160) <= 4


def test_crop_may_reach_beyond_the_picture_and_is_filled_with_zero() -> None:
    prepared = prepare(head(220, 150, centre=(75, 110), radii=(60, 105)), STANDARD)

    assert prepared.box.x0 < 0
    assert prepared.box.x1 > 150
    assert not prepared.image[:, :20].any()


@pytest.mark.parametrize("scale", [0.05, 0.5, 4.0, 1000.0])
@pytest.mark.parametrize("offset", [0.0, 3.0, -7.0])
def test_linear_changes_of_intensity_change_nothing(scale: float, offset: float) -> None:
    ours = prepare(head(), STANDARD).image
    theirs = prepare(head() * np.float32(scale) + np.float32(offset), STANDARD).image

    assert np.abs(ours - theirs).max() < 0.02


def test_a_wide_black_border_changes_little() -> None:
    ours = prepare(head(), STANDARD).image
    theirs = prepare(np.pad(head(), ((40, 160), (200, 10))), STANDARD).image

    assert np.abs(ours - theirs).mean() < 0.02


def test_the_median_within_the_head_has_one_level() -> None:
    def median(picture: Float32) -> float:
        image = prepare(picture, STANDARD).image
        return float(np.median(image[image > 0]))

    dark = head()
    bright = np.where(dark == np.float32(0.35), np.float32(0.6), dark)
    assert median(dark) == pytest.approx(STANDARD.median, abs=0.05)
    assert median(bright) == pytest.approx(STANDARD.median, abs=0.05)


def test_letters_frames_and_noise_around_the_head_are_removed() -> None:
    plain = prepare(head(400, 400, (200, 200)), STANDARD)
    marked = head(400, 400, (200, 200))
    letters = np.zeros(marked.shape, np.uint8)
    cv2.putText(letters, "R  TE 12.3", (5, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    cv2.rectangle(letters, (0, 0), (399, 399), 255, 2)
    marked = np.maximum(marked, letters.astype(np.float32) / 255)
    marked += np.random.default_rng(1).uniform(0, 0.03, marked.shape).astype(np.float32)
    prepared = prepare(marked, STANDARD)

    assert np.abs(np.array(prepared.box) - np.array(plain.box)).max() <= 8
    assert not prepared.image[:8, :8].any()
    assert not prepared.image[-8:, -8:].any()


def test_a_scalp_apart_from_the_brain_stays_in_the_crop() -> None:
    picture = np.zeros((300, 300), np.float32)
    cv2.circle(picture, (150, 150), 80, 0.6, -1)
    for start in range(0, 360, 60):  # a broken ring, parted from the brain by dark bone
        cv2.ellipse(picture, (150, 150), (97, 97), 0, start, start + 40, 0.9, 8)
    box = prepare(picture, STANDARD).box

    assert box.x1 - box.x0 >= 200


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_blank_picture_gives_zeros_and_the_whole_frame(level: float) -> None:
    prepared = prepare(np.full((40, 60), level, np.float32), STANDARD)

    assert prepared.blank
    assert not prepared.image.any()
    assert (prepared.box.x0, prepared.box.x1) == (0, 60)
    assert (prepared.box.y0, prepared.box.y1) == (-10, 50)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3), (16, 16), (3000, 20)])
@pytest.mark.parametrize("kind", ["noise", "ramp", "one"])
def test_any_shape_and_content_gives_a_finite_picture(shape: tuple[int, int], kind: str) -> None:
    if kind == "noise":
        picture = np.random.default_rng(2).random(shape, np.float32)
    elif kind == "ramp":
        picture = np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    else:
        picture = np.zeros(shape, np.float32)
        picture[0, 0] = 1
    image = prepare(picture, STANDARD).image

    assert image.shape == (224, 224)
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1


def test_the_source_is_not_changed_and_the_result_repeats() -> None:
    picture = head()
    before = picture.copy()
    first = prepare(picture, STANDARD)
    second = prepare(picture[::1], STANDARD)

    assert np.array_equal(picture, before)
    assert np.array_equal(first.image, second.image)


def test_a_strided_view_is_read_like_its_copy() -> None:
    picture = head(600, 600, (300, 300), (160, 200))[::2, ::2]

    assert np.array_equal(prepare(picture, STANDARD).image, prepare(picture.copy(), STANDARD).image)


@pytest.mark.parametrize("shape", [(0, 5), (10, 10, 3), (7,)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PreprocessingError, match="non-empty array"):
        prepare(np.zeros(shape, np.float32), STANDARD)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    picture = head()
    picture[5, 5] = value
    with pytest.raises(PreprocessingError, match="finite numbers only"):
        prepare(picture, STANDARD)


def test_parameters_make_the_round_trip_through_json() -> None:
    settings = Preprocessing(size=192, margin=0.05, median=0)

    assert Preprocessing.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 4}, r"size is 4; expected 16 to 4096"),
        ({"version": 2}, r"version is 2; expected 1"),
        ({"low_percentile": 99.9}, r"low_percentile is 99.9"),
        ({"colour": 1}, r"needs exactly the keys"),
    ],
)
def test_wrong_parameters_are_named(change: dict[str, float], message: str) -> None:
    with pytest.raises(PreprocessingError, match=message):
        Preprocessing.from_json(STANDARD.to_json() | change)


def test_it_is_fast() -> None:
    """A generous bound, so that a busy machine passes; `benchmarks/` measures."""
    picture = head(512, 512, (256, 256), (160, 200))
    prepare(picture, STANDARD)
    best = min(_time(picture) for _ in range(30))

    assert best < 0.010


def _time(picture: Float32) -> float:
    began = time.perf_counter()
    prepare(picture, STANDARD)
    return time.perf_counter() - began
