"""The model that ships: the promised bytes, the promised size, and the same answers on every engine."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import JPEG2000Lossless

from config.settings import ROOT
from imaging.limits import Limits
from imaging.preprocess import prepare
from imaging.reading import read_frame
from inference.artefact import Artefact, load
from inference.engines import choose
from inference.engines.base import Float32
from inference.predictor import Predictor
from inference.shipped import default_model
from tests.unit.imaging.dicom_files import mr, to_bytes

LARGEST_BYTES = 30_000_000
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def shipped() -> Artefact:
    return load(*default_model(ROOT / "models"))


def example_files() -> dict[Path, str]:
    """The example pictures and their labels in the source."""
    with (EXAMPLES / "provenance.csv").open(newline="") as file:
        return {EXAMPLES / row["picture"]: row["label"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def images(shipped: Artefact) -> Float32:
    """Forty slices, all example patients."""
    files = sorted(example_files())[::2][:40]
    prepared = [prepare(read_frame(path, 0, Limits()).pixels, shipped.manifest.preprocessing) for path in files]
    return np.stack([one.image for one in prepared])[..., np.newaxis]


def test_is_small_enough_and_complete(shipped: Artefact) -> None:
    path, digest = default_model(ROOT / "models")
    assert path.stat().st_size <= LARGEST_BYTES
    assert shipped.digest == digest
    assert set(shipped.manifest.class_names) == {"glioma", "meningioma", "pituitary", "no_tumor"}
    assert sum(array.size for array in shipped.weights().values()) > 1_000_000
    assert len(shipped.model_card) > 1000
    assert {"test", "validation", "calibration"} <= set(shipped.manifest.metrics)


def test_no_path_of_the_machine_that_made_it(shipped: Artefact) -> None:
    text = shipped.openvino_xml.decode() + shipped.model_card
    assert "/tmp" not in text
    assert "/home" not in text
    assert str(ROOT) not in text


@pytest.mark.tensorflow
@pytest.mark.slow
def test_engines_agree_on_real_slices(shipped: Artefact, images: Float32) -> None:
    """Probabilities within 1e-4, and heatmaps that a reader cannot tell apart."""
    pytest.importorskip("tensorflow")
    one, other = choose("openvino", shipped).run(images), choose("tensorflow", shipped).run(images)

    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)
    np.testing.assert_array_equal(one.scores.argmax(axis=1), other.scores.argmax(axis=1))
    for ours, theirs in zip(one.heatmaps, other.heatmaps, strict=True):
        assert structural_similarity(ours, theirs) > 0.99


def test_one_slice_or_thirty_two(shipped: Artefact, images: Float32) -> None:
    engine = choose("openvino", shipped)
    together = engine.run(images[:32])
    for row in range(32):
        alone = engine.run(images[row : row + 1])
        np.testing.assert_array_equal(alone.probabilities[0], together.probabilities[row])
        np.testing.assert_array_equal(alone.heatmaps[0], together.heatmaps[row])


def test_says_the_source_s_label_for_most_example_slices(shipped: Artefact) -> None:
    """Not a measure of quality (the card has that): a wrong preprocessing or class order would show here at once."""
    files = example_files()
    with Predictor(shipped, choose("openvino", shipped)) as predictor:
        predictions = predictor.predict([read_frame(path, 0, Limits()) for path in files])
    right = [one.class_name == label for one, label in zip(predictions, files.values(), strict=True)]
    assert np.mean(right) > 0.8


def as_dicom(eight: npt.NDArray[np.uint8]) -> dict[str, tuple[FileDataset, float]]:
    """The same slice as scanners and archives would store it, and how far a probability may move."""
    deep = eight.astype(np.uint16) * 16
    # What the scanner measured before somebody saved 8 bits of it.
    original = deep + np.random.default_rng(1).integers(0, 16, eight.shape, np.uint16)
    packed = mr(deep)
    packed.compress(JPEG2000Lossless, generate_instance_uid=False)
    return {
        "8 bits": (mr(eight, 8), 0.0),
        "inverted": (mr(255 - eight, 8, PhotometricInterpretation="MONOCHROME1"), 1e-4),
        "16 bits, window": (mr(deep, WindowCenter=2040.5, WindowWidth=4081), 1e-4),
        "16 bits, no window, JPEG 2000": (packed, 1e-4),
        "original depth, window": (mr(original, WindowCenter=2048, WindowWidth=4096), 0.05),
        "original depth, signed, rescaled": (
            mr(original.astype(np.int16) - 1000, 16, RescaleSlope=2.5, RescaleIntercept=-7),
            0.05,
        ),
    }


def test_a_slice_as_dicom_and_as_png_gives_the_same_prediction(shipped: Artefact) -> None:
    """The tolerances that docs/reading.md states."""
    paths = sorted(path for path in example_files() if path.suffix == ".png")[::6]
    assert len(paths) >= 5
    with Predictor(shipped, choose("openvino", shipped)) as predictor:
        for path in paths:
            png = read_frame(path, 0, Limits())
            forms = as_dicom(np.rint(png.pixels * 255).astype(np.uint8))
            frames = [read_frame(to_bytes(dataset), 0, Limits()) for dataset, _ in forms.values()]
            expected, *found = predictor.predict([png, *frames])
            for (name, (_, tolerance)), one in zip(forms.items(), found, strict=True):
                assert one.class_name == expected.class_name, f"{path.name} as {name}"
                apart = max(abs(one.probabilities[key] - expected.probabilities[key]) for key in one.probabilities)
                assert apart <= tolerance, f"{path.name} as {name}"


def structural_similarity(one: Float32, other: Float32) -> float:
    """SSIM (Wang et al. 2004) over the whole small map as a single window."""
    c1, c2 = 0.01**2, 0.03**2
    covariance = float(((one - one.mean()) * (other - other.mean())).mean())
    means = (2 * one.mean() * other.mean() + c1) / (one.mean() ** 2 + other.mean() ** 2 + c1)
    spreads = (2 * covariance + c2) / (one.var() + other.var() + c2)
    return float(means * spreads)
