"""Export: the same network gives the same bytes, and a graph that disagrees is never written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from imaging.preprocess import Preprocessing
from inference import export as exporting
from inference.artefact import load
from inference.errors import ArtefactError, ExportError
from inference.export import ModelFacts, compare, export, to_openvino
from inference.gradcam import explained_model
from inference.networks import HeadSpec, build
from tests.tiny_artefact import INPUT_SIZE, TINY_ARTEFACT, TINY_CLASS_NAMES, build_tiny_network, phantoms

pytestmark = pytest.mark.tensorflow

FACTS = ModelFacts(
    preprocessing=Preprocessing(size=INPUT_SIZE),
    temperature=0.7,
    planes=("axial",),
    metrics={"accuracy": 0.5, "by_plane": {"axial": [1, 2]}},
    dataset_fingerprint="f",
    code_version="v",
    created_at="2026-01-01T00:00:00Z",
    model_card="# Card\n",
)


def test_says_what_it_holds_and_how_closely_it_agrees(tmp_path: Path) -> None:
    network = build_tiny_network()
    digest = export(tmp_path / "a.neurosight", network, FACTS, phantoms(5))

    artefact = load(tmp_path / "a.neurosight", digest)
    manifest = artefact.manifest
    assert (manifest.network.name, manifest.network.input_size, manifest.network.head) == (
        "tiny",
        64,
        HeadSpec(24, 0.2),
    )
    assert (manifest.grid, manifest.feature_channels, manifest.class_names) == ((8, 8), 16, TINY_CLASS_NAMES)
    assert manifest.temperature == 0.7
    assert manifest.metrics == {"accuracy": 0.5, "by_plane": {"axial": [1, 2]}}
    assert set(manifest.export["largest_difference"]) == {"scores", "probabilities", "heatmaps", "features"}
    assert max(manifest.export["largest_difference"].values()) < 1e-4
    assert artefact.model_card == "# Card\n"
    for path, array in network.weights().items():
        np.testing.assert_array_equal(artefact.weights()[path], array)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = {export(tmp_path / f"{name}.neurosight", build_tiny_network(), FACTS, phantoms(5)) for name in "ab"}
    assert len(digests) == 1


def test_a_graph_that_disagrees_is_refused() -> None:
    ours, other = (explained_model(build_tiny_network(seed=seed)) for seed in (7, 8))
    manifest = replace(load(TINY_ARTEFACT).manifest, temperature=1.0)
    with pytest.raises(ExportError, match=r"disagrees with the network by .*'scores': .*Nothing was written"):
        compare(ours, manifest, *to_openvino(other), phantoms(5))


def test_disagreement_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(ExportError, match="Nothing was written"):
        export(tmp_path / "a.neurosight", build_tiny_network(), FACTS, phantoms(2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "images", "error", "message"),
    [
        ({}, 0, ExportError, "at least one image is needed"),
        ({"temperature": float("nan")}, 2, ValueError, "temperature must be > 0"),
        ({"planes": ("up",)}, 2, ArtefactError, "expected some of axial"),
        ({"metrics": {"x": float("inf")}}, 2, ArtefactError, "cannot be written as JSON"),
        ({"preprocessing": Preprocessing(size=32)}, 2, ArtefactError, "expected the network's input size, 64"),
    ],
)
def test_wrong_facts_are_refused(
    tmp_path: Path, change: dict[str, Any], images: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        export(
            tmp_path / "a.neurosight", build_tiny_network(), replace(FACTS, **change), phantoms(max(images, 1))[:images]
        )
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_any_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="built for any input size"):
        export(tmp_path / "a.neurosight", build("tiny", None, TINY_CLASS_NAMES), FACTS, phantoms(1))
