"""The predictor: order, errors in their place, and the same bits alone and in company."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from imaging.frames import Frame
from imaging.outcomes import Reason, RejectedFile
from imaging.preprocess import PreprocessingError
from inference.errors import ArtefactError, DigestMismatchError
from inference.predictor import STINT, Prediction, Predictor, open_predictor
from tests.tiny_artefact import TINY_ARTEFACT, TINY_CLASS_NAMES, phantoms, tiny_digest


@pytest.fixture(scope="module", params=["openvino", pytest.param("tensorflow", marks=pytest.mark.tensorflow)])
def predictor(request: pytest.FixtureRequest) -> Iterator[Predictor]:
    """One engine takes slices singly, the other in groups."""
    if request.param == "tensorflow":
        pytest.importorskip("tensorflow")
    with open_predictor(TINY_ARTEFACT, tiny_digest(), request.param, threads=2) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def pictures() -> list[npt.NDArray[np.float32]]:
    return [phantom[..., 0] for phantom in phantoms(50, 200, seed=31)]


def same(one: Prediction, other: Prediction) -> bool:
    """Equal to the bit."""
    return (
        (one.class_name, one.probability, one.probabilities, one.scores, one.box, one.blank)
        == (other.class_name, other.probability, other.probabilities, other.scores, other.box, other.blank)
        and one.heatmap.tobytes() == other.heatmap.tobytes()
        and one.features.tobytes() == other.features.tobytes()
    )


def test_says_what_the_model_says(predictor: Predictor, pictures: list[npt.NDArray[np.float32]]) -> None:
    predictions = predictor.predict(pictures)

    assert len(predictions) == len(pictures)
    assert len({prediction.class_name for prediction in predictions}) >= 3
    for prediction in predictions:
        assert tuple(prediction.probabilities) == TINY_CLASS_NAMES
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert prediction.probability == prediction.probabilities[prediction.class_name]
        assert prediction.probability == max(prediction.probabilities.values())
        assert TINY_CLASS_NAMES[int(np.argmax(prediction.scores))] == prediction.class_name
        assert prediction.heatmap.shape == (8, 8)
        assert prediction.box.x1 - prediction.box.x0 == prediction.box.y1 - prediction.box.y0
        assert not prediction.blank


def test_alone_or_among_many_the_bits_are_the_same(
    predictor: Predictor, pictures: list[npt.NDArray[np.float32]]
) -> None:
    together = predictor.predict(pictures)
    alone = [predictor.predict([picture])[0] for picture in pictures]
    backwards = predictor.predict(pictures[::-1])[::-1]

    assert all(map(same, together, alone))
    assert all(map(same, together, backwards))


def test_another_predictor_with_other_threads_gives_the_same_bits(
    predictor: Predictor, pictures: list[npt.NDArray[np.float32]]
) -> None:
    with open_predictor(TINY_ARTEFACT, engine=predictor.engine.name, threads=1) as other:
        assert all(map(same, other.predict(pictures), predictor.predict(pictures)))


def test_frames_and_arrays_are_the_same(predictor: Predictor, pictures: list[npt.NDArray[np.float32]]) -> None:
    assert same(predictor.predict([Frame(pictures[0])])[0], predictor.predict([pictures[0]])[0])


def test_nothing_gives_nothing(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def test_a_black_slice_is_called_blank(predictor: Predictor) -> None:
    (prediction,) = predictor.predict([np.zeros((50, 80), np.float32)])
    assert prediction.blank


def test_a_bad_slice_stays_in_its_place_and_stops_nobody(
    predictor: Predictor, pictures: list[npt.NDArray[np.float32]]
) -> None:
    bad = {0, 8, 9, 10, 11, 12, 13, 14, 15, 37, 49}

    def read(numbers: list[int]) -> list[npt.NDArray[np.float32] | RejectedFile]:
        return [RejectedFile(Reason.DAMAGED, found="PNG") if number in bad else pictures[number] for number in numbers]

    results = list(predictor.predict_each(range(50), read))

    assert [number for number, _ in results] == list(range(50))
    assert {number for number, result in results if isinstance(result, RejectedFile)} == bad
    expected = predictor.predict(pictures)
    assert all(same(result, expected[number]) for number, result in results if isinstance(result, Prediction))


def test_only_bad_slices(predictor: Predictor) -> None:
    results = list(predictor.predict_each([np.zeros(3), np.zeros((2, 2, 3))], lambda arrays: arrays))
    assert [type(result) for _, result in results] == [PreprocessingError, PreprocessingError]
    with pytest.raises(PreprocessingError, match="must be a non-empty array"):
        predictor.predict([np.zeros(3)])


def test_an_error_that_is_not_the_slices_own_is_not_swallowed(
    predictor: Predictor, pictures: list[npt.NDArray[np.float32]]
) -> None:
    def read(numbers: list[int]) -> list[npt.NDArray[np.float32]]:
        if 30 in numbers:
            raise ConnectionError("the blob store is away")
        return [pictures[number] for number in numbers]

    results = predictor.predict_each(range(50), read)
    with pytest.raises(ConnectionError, match="blob store is away"):
        list(results)
    assert len(predictor.predict(pictures[:3])) == 3, "the predictor must be usable afterwards"


def test_sources_are_taken_only_a_little_ahead_and_read_in_threads(
    predictor: Predictor, pictures: list[npt.NDArray[np.float32]]
) -> None:
    taken = 0
    readers = set()

    def sources() -> Iterator[int]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield number

    def read(numbers: list[int]) -> list[npt.NDArray[np.float32]]:
        readers.add(threading.get_ident())
        return [pictures[number % 50] for number in numbers]

    results = predictor.predict_each(sources(), read)
    for _ in range(100):
        next(results)
    results.close()  # type: ignore[attr-defined]

    assert taken <= 100 + 4 * max(predictor.engine.group, STINT)
    assert threading.get_ident() not in readers


def test_loads_only_the_promoted_digest() -> None:
    with pytest.raises(DigestMismatchError, match="not the promoted model"):
        open_predictor(TINY_ARTEFACT, "0" * 64)
    with pytest.raises(ArtefactError, match="not a readable model artefact"):
        open_predictor(Path(__file__))
