"""From a trained Keras network to an artefact.

Owns: joining the network with Grad-CAM, converting that graph to OpenVINO, comparing the two, and writing the file.
Needs TensorFlow; used at the end of a training run and in tests, never by a worker. Refuses: to export a network
whose converted graph does not agree with the original.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imaging.preprocess import Preprocessing
from inference import artefact as artefacts
from inference import manifest as manifests
from inference.engines.openvino_cpu import OpenVinoEngine
from inference.errors import ExportError
from inference.gradcam import OUTPUT_NAMES, explained_model
from inference.manifest import Manifest, NetworkFacts
from inference.networks import Network

LARGEST_DIFFERENCE: Final = 1e-3
"""In probability and heatmap, between Keras and OpenVINO on the same images; float32 rounding stays far below."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What only the training run knows of its network. See `inference.manifest.Manifest` for the fields."""

    preprocessing: Preprocessing
    temperature: float
    planes: tuple[str, ...]
    metrics: Mapping[str, Any]
    dataset_fingerprint: str
    code_version: str
    created_at: str
    model_card: str


def export(path: Path, network: Network, facts: ModelFacts, check_images: npt.NDArray[np.float32]) -> str:
    """Writes a trained network as an artefact.

    Args:
        path: Ends in `.neurosight`.
        network: Trained.
        facts: What goes into the manifest and the card.
        check_images: (n, S, S, 1) float32 in [0, 1], a few real prepared slices on which Keras and OpenVINO are
            compared; at least one.

    Returns:
        The digest of the file.

    Raises:
        ExportError: If the two graphs disagree or the conversion fails.
        ArtefactError: If a fact breaks the manifest's rules.
    """
    if network.input_size is None:
        raise ExportError("the network was built for any input size; build it with a fixed one and set its weights.")
    if len(check_images) == 0:
        raise ExportError("at least one image is needed to compare the exported graph with the network; received none.")
    model = explained_model(network, facts.temperature)
    _, rows, columns, channels = network.backbone.output_shape
    manifest = Manifest(
        network=NetworkFacts(network.name, network.input_size, network.head_spec),
        grid=(rows, columns),
        feature_channels=channels,
        class_names=tuple(network.class_names),
        preprocessing=facts.preprocessing,
        temperature=facts.temperature,
        planes=facts.planes,
        metrics=facts.metrics,
        dataset_fingerprint=facts.dataset_fingerprint,
        code_version=facts.code_version,
        created_at=facts.created_at,
    )
    manifests.to_bytes(manifest)  # a wrong fact should fail here, not after the conversion
    xml, constants = to_openvino(model)
    differences = compare(model, manifest, xml, constants, check_images)
    manifest = replace(manifest, export={"largest_difference": differences, **_library_versions()})
    return artefacts.write(path, manifest, network.weights(), xml, constants, facts.model_card)


def to_openvino(model: Any) -> tuple[bytes, bytes]:
    """Converts an explained model to an OpenVINO graph with dynamic batch and frozen float32 weights.

    Args:
        model: Of `inference.gradcam.explained_model`.

    Returns:
        The graph and its constants. Names are numbered by position, and where the conversion took place is left out:
        the same network gives the same bytes.

    Raises:
        ExportError: If OpenVINO cannot convert an operation.
    """
    import openvino

    with tempfile.TemporaryDirectory(prefix="neurosight-export-") as folder:
        saved = Path(folder) / "saved"
        # A bare module's variables would stay variables; Keras's own export lets the converter freeze them.
        model.export(str(saved), format="tf_saved_model", verbose=False)
        try:
            graph = openvino.convert_model(str(saved))
        except Exception as error:
            raise ExportError(f"OpenVINO cannot convert this network: {error}") from error
        _normalise_names(graph)
        graph.set_rt_info("a Keras model", ["conversion_parameters", "input_model"])  # was the temporary folder
        target = Path(folder) / "graph.xml"
        openvino.save_model(graph, str(target), compress_to_fp16=False)
        return target.read_bytes(), target.with_suffix(".bin").read_bytes()


def compare(
    model: Any, manifest: Manifest, xml: bytes, constants: bytes, images: npt.NDArray[np.float32]
) -> dict[str, float]:
    """The largest differences between Keras and OpenVINO.

    Args:
        model: The Keras model.
        manifest: Of the artefact to be.
        xml: Converted graph.
        constants: Its constants.
        images: (n, S, S, 1).

    Returns:
        Output name -> largest absolute difference; scores and features relative to their own largest value.

    Raises:
        ExportError: If one is above `LARGEST_DIFFERENCE`.
    """
    candidate = artefacts.Artefact(manifest, "", xml, constants, b"", "")
    engine = OpenVinoEngine(candidate, threads=1)
    theirs = engine.run(images)
    engine.close()
    differences = {}
    ours = [model(images[start : start + 16], training=False) for start in range(0, len(images), 16)]
    for name in OUTPUT_NAMES:
        expected = np.concatenate([np.asarray(part[name]) for part in ours])
        scale = max(1.0, float(np.abs(expected).max()))
        differences[name] = float(np.abs(expected - getattr(theirs, name)).max()) / scale
    too_large = {name: value for name, value in differences.items() if not value <= LARGEST_DIFFERENCE}
    if too_large:
        raise ExportError(
            f"the exported graph disagrees with the network by {too_large}; at most {LARGEST_DIFFERENCE} is accepted. "
            "Nothing was written."
        )
    return differences


def _normalise_names(graph: Any) -> None:
    """Names every operation by its position and every output by its meaning."""
    for output in graph.outputs:
        meaning = next((name for name in OUTPUT_NAMES if name in output.get_names()), None)
        if meaning is None:
            raise ExportError(
                f"an output of the converted graph has the names {output.get_names()}; expected {OUTPUT_NAMES}."
            )
        output.set_names({meaning})
    graph.input(0).set_names({"images"})
    for position, operation in enumerate(graph.get_ordered_ops()):
        operation.set_friendly_name(f"op{position}")


def _library_versions() -> dict[str, str]:
    import keras
    import openvino
    import tensorflow as tf

    return {"openvino": openvino.get_version(), "tensorflow": tf.__version__, "keras": keras.__version__}
