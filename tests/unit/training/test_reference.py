"""The reference of a model's answers: all slices are counted once, in bins that tell equal pictures from others."""

from dataclasses import replace

import numpy as np
import pytest

from db.checkpoints import Checkpoint
from db.queries import drift
from inference import artefact as artefacts
from inference.guard import Limits
from tests.guarded_artefact import tiny_guard
from tests.tiny_artefact import TINY_ARTEFACT
from training.guard import Seen
from training.reference import reference


def seen(count: int, channels: int, classes: int) -> Seen:
    rng = np.random.default_rng(11)
    logits = rng.normal(size=(count, classes)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    borders = np.where(np.arange(count) % 10 == 0, 0.9, 0.0)  # every tenth has a bright edge
    return Seen(
        rng.random((count, channels)).astype(np.float32),
        np.log(probabilities).astype(np.float32),
        probabilities.astype(np.float32),
        borders,
        np.zeros(count, bool),
    )


def test_each_slice_is_counted_once_and_what_is_kept_back_by_itself() -> None:
    tiny = artefacts.load(TINY_ARTEFACT)
    names = tiny.manifest.class_names
    guard = tiny_guard(tiny, Limits(border=0.5, turned=700.0, distance=1e6, doubt=1.0))
    found = reference(tiny, guard, seen(200, tiny.manifest.feature_channels, len(names)))
    assert found["slices"] == 200
    assert sum(found["answers"].values()) == 200
    assert found["answers"]["abstained"] == 20
    for measure in found["measures"].values():
        assert sum(measure["counts"]) == 200
        assert len(measure["counts"]) == len(measure["edges"]) + 1
        assert measure["edges"] == sorted(set(measure["edges"]))
    assert max(found["measures"]["probability"]["counts"]) <= 25, "about ten equal bins"
    assert found["measures"]["border"]["counts"] == [180, 20]


def test_watching_reads_what_training_wrote() -> None:
    tiny = artefacts.load(TINY_ARTEFACT)
    guard = tiny_guard(tiny)
    found = reference(tiny, guard, seen(200, tiny.manifest.feature_channels, len(tiny.manifest.class_names)))
    manifest = {"guard": replace(guard, record={"reference": found}).to_json()}
    assert drift.reference_of(Checkpoint(manifest=manifest)) == found
    assert drift.stability_index(found["answers"], found["answers"]) == pytest.approx(0)
