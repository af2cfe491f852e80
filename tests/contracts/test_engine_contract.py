"""One suite for every engine: what `inference.engines.base` promises."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from inference import artefact as artefacts
from inference.artefact import Artefact
from inference.engines import Engine, EngineOutput, choose
from inference.errors import ArtefactError, EngineError, EngineInputError
from tests.tiny_artefact import INPUT_SIZE, TINY_ARTEFACT, build_tiny_artefact, phantoms

FIELDS = ("scores", "probabilities", "heatmaps", "features")
ENGINES = [pytest.param("openvino"), pytest.param("tensorflow", marks=pytest.mark.tensorflow)]


@pytest.fixture(scope="module")
def softmax() -> Artefact:
    return artefacts.load(TINY_ARTEFACT)


@pytest.fixture(scope="module")
def sigmoid(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    pytest.importorskip("tensorflow")
    path = tmp_path_factory.mktemp("sigmoid") / "sigmoid.neurosight"
    return artefacts.load(path, build_tiny_artefact(path, ("glioma", "meningioma"), "sigmoid"))


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, softmax: Artefact) -> Iterator[Engine]:
    if request.param == "tensorflow":
        pytest.importorskip("tensorflow")
    engine = choose(request.param, softmax, threads=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.float32]:
    return phantoms(40, seed=21)


def same(one: EngineOutput, other: EngineOutput) -> bool:
    """Equal to the bit."""
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


def rows(output: EngineOutput, chosen: slice | list[int]) -> EngineOutput:
    return EngineOutput(*(getattr(output, name)[chosen] for name in FIELDS))


def test_shapes_types_and_ranges(engine: Engine, images: npt.NDArray[np.float32]) -> None:
    output = engine.run(images)

    assert output.scores.shape == (40, 4)
    assert output.probabilities.shape == (40, 4)
    assert output.heatmaps.shape == (40, 8, 8)
    assert output.features.shape == (40, 16)
    assert {getattr(output, name).dtype for name in FIELDS} == {np.dtype(np.float32)}
    np.testing.assert_allclose(output.probabilities.sum(axis=1), 1, atol=1e-6)
    assert set(output.scores.argmax(axis=1)) == {0, 1, 2, 3}, "the images must not all look alike to the model"
    assert output.heatmaps.min() >= 0
    peaks = output.heatmaps.max(axis=(1, 2))
    assert peaks.max() <= 1
    assert np.all((peaks == 0) | (peaks > 1 - 1e-6)), "each map is divided by its own maximum, or all zero"
    assert output.features.any(axis=1).all()


def test_temperature_divides_the_scores(engine: Engine, softmax: Artefact, images: npt.NDArray[np.float32]) -> None:
    output = engine.run(images)
    odds = np.exp(output.scores / softmax.manifest.temperature)

    assert softmax.manifest.temperature == 1.5
    np.testing.assert_allclose(output.probabilities, odds / odds.sum(axis=1, keepdims=True), atol=1e-5)


def test_no_slices_give_no_rows(engine: Engine) -> None:
    output = engine.run(np.empty((0, INPUT_SIZE, INPUT_SIZE, 1), np.float32))

    assert [getattr(output, name).shape for name in FIELDS] == [(0, 4), (0, 4), (0, 8, 8), (0, 16)]


def test_a_row_does_not_depend_on_its_neighbours(engine: Engine, images: npt.NDArray[np.float32]) -> None:
    together = engine.run(images)

    for count in (1, 3, 32):
        for start in (0, 7):
            assert same(engine.run(images[start : start + count]), rows(together, slice(start, start + count)))
    order = list(np.random.default_rng(0).permutation(len(images)))
    assert same(engine.run(images[order]), rows(together, order)), "rows must come back in the order given"


def test_the_same_again_and_from_several_threads(engine: Engine, images: npt.NDArray[np.float32]) -> None:
    expected = engine.run(images)
    results: list[bool] = []

    def work() -> None:
        results.extend(same(engine.run(images), expected) for _ in range(3))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 12


def test_does_not_change_or_keep_its_input(engine: Engine, images: npt.NDArray[np.float32]) -> None:
    mine = images.copy()
    output = engine.run(mine)
    np.testing.assert_array_equal(mine, images)
    kept = output.scores.copy()
    mine[:] = 0
    engine.run(mine)
    np.testing.assert_array_equal(output.scores, kept)


def test_takes_arrays_that_are_not_contiguous(engine: Engine, images: npt.NDArray[np.float32]) -> None:
    turned = images[::2].transpose(0, 2, 1, 3)
    assert same(engine.run(turned), engine.run(np.ascontiguousarray(turned)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((2, INPUT_SIZE, INPUT_SIZE, 1)), "received images of type float64; expected float32 of shape"),
        (np.zeros((2, INPUT_SIZE, INPUT_SIZE, 1), np.uint8), "type uint8"),
        ([[0.0]], "type list"),
        (
            np.zeros((INPUT_SIZE, INPUT_SIZE, 1), np.float32),
            r"shape \(64, 64, 1\); expected float32 of shape \(n, 64, 64",
        ),
        (np.zeros((1, INPUT_SIZE, INPUT_SIZE, 3), np.float32), r"shape \(1, 64, 64, 3\)"),
        (np.zeros((1, 32, 32, 1), np.float32), r"shape \(1, 32, 32, 1\)"),
        (np.full((1, INPUT_SIZE, INPUT_SIZE, 1), np.nan, np.float32), "values from nan"),
        (np.full((1, INPUT_SIZE, INPUT_SIZE, 1), 255, np.float32), r"values from 255 to 255; .* in \[0, 1\]"),
        (np.full((1, INPUT_SIZE, INPUT_SIZE, 1), -0.1, np.float32), "values from -0.1"),
    ],
)
def test_what_it_cannot_judge_is_refused(engine: Engine, bad: npt.NDArray[np.float32], message: str) -> None:
    with pytest.raises(EngineInputError, match=message):
        engine.run(bad)


def test_one_nan_among_good_rows_is_refused_and_the_engine_goes_on(
    engine: Engine, images: npt.NDArray[np.float32]
) -> None:
    before = engine.run(images)
    bad = images.copy()
    bad[13, 5, 5, 0] = np.nan

    with pytest.raises(EngineInputError, match="no NaN"):
        engine.run(bad)
    assert same(engine.run(images), before)


def test_says_what_it_runs_on(engine: Engine) -> None:
    assert engine.name in ("openvino", "tensorflow")
    assert engine.device.startswith(("CPU", "GPU"))
    assert engine.group >= 1


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_engines_agree(kind: str, request: pytest.FixtureRequest, images: npt.NDArray[np.float32]) -> None:
    artefact: Artefact = request.getfixturevalue(kind)
    one, other = (choose(name, artefact).run(images) for name in ("openvino", "tensorflow"))

    for name in FIELDS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-4)
    assert len(set((one.probabilities[:, 1] > 0.5).tolist())) == 2


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["openvino", "tensorflow"])
def test_a_sigmoid_head_has_one_score_and_two_probabilities(
    name: str, sigmoid: Artefact, images: npt.NDArray[np.float32]
) -> None:
    output = choose(name, sigmoid).run(images)

    assert output.scores.shape == (40, 1)
    second = 1 / (1 + np.exp(-output.scores[:, 0] / 1.5))
    np.testing.assert_allclose(output.probabilities, np.stack([1 - second, second], axis=1), atol=1e-6)


def test_openvino_gives_the_same_bits_with_any_number_of_threads(
    softmax: Artefact, images: npt.NDArray[np.float32]
) -> None:
    outputs = [choose("openvino", softmax, threads).run(images) for threads in (1, 2, 3)]
    assert same(outputs[0], outputs[1])
    assert same(outputs[0], outputs[2])


def test_openvino_refuses_a_graph_that_is_not_the_manifests(softmax: Artefact) -> None:
    with pytest.raises(EngineError, match="OpenVINO cannot use the graph of this model"):
        choose("openvino", replace(softmax, openvino_xml=b"<net/>"))
    wrong = replace(softmax.manifest, class_names=("glioma", "meningioma"))
    with pytest.raises(EngineError, match=r"output 'scores' has shape \(1, 4\); the manifest promises \(1, 2\)"):
        choose("openvino", replace(softmax, manifest=wrong))


@pytest.mark.tensorflow
def test_tensorflow_refuses_weights_of_another_network(softmax: Artefact) -> None:
    pytest.importorskip("tensorflow")
    other = replace(softmax.manifest.network, head=replace(softmax.manifest.network.head, units=25))
    with pytest.raises(ArtefactError, match=r"cannot be built again: .*expects \(\d+, 25\)|expects \(25,"):
        choose("tensorflow", replace(softmax, manifest=replace(softmax.manifest, network=other)))


def test_unknown_names_are_refused(softmax: Artefact) -> None:
    with pytest.raises(EngineError, match="no engine 'torch'; expected one of auto, openvino, tensorflow"):
        choose("torch", softmax)


def test_auto_is_openvino_where_there_is_no_gpu(softmax: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.engines.choice._GPU_DEVICE_FILES", (Path("/nonexistent"),))
    assert choose("auto", softmax).name == "openvino"
