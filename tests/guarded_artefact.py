"""The tiny model with a guard that turns away pictures with a bright edge, and answers all others."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from inference import artefact as artefacts
from inference.artefact import Artefact
from inference.guard import Guard, Limits
from tests.tiny_artefact import TINY_ARTEFACT


def tiny_guard(artefact: Artefact, limits: Limits | None = None) -> Guard:
    """A guard of the tiny model; its limits but that of the border are out of reach unless others are given."""
    channels, classes = artefact.manifest.feature_channels, len(artefact.manifest.class_names)
    rng = np.random.default_rng(3)
    return Guard(
        directions=np.linalg.qr(rng.normal(size=(channels, 4)))[0].astype(np.float32),
        means=rng.random((classes, channels)).astype(np.float32),
        scales=np.array([4, 3, 2, 1, 0.5], np.float32),
        turned=np.append(rng.normal(size=channels), 0).astype(np.float32),
        limits=limits or Limits(border=0.5, turned=700.0, distance=1e6, doubt=1.0),
        coverage=0.98,
        record={},
    )


def write_guarded(path: Path) -> str:
    """Writes the artefact; returns its digest."""
    tiny = artefacts.load(TINY_ARTEFACT)
    manifest = replace(tiny.manifest, members={})
    return artefacts.write(
        path, manifest, tiny.weights(), tiny.openvino_xml, tiny.openvino_bin, tiny.model_card, tiny_guard(tiny)
    )
