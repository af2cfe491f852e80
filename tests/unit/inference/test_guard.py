"""The guard: numbers that can be worked out by hand, the order of reasons, and its way through an artefact."""

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference import artefact as artefacts
from inference.attention import HeatmapWarning
from inference.errors import ArtefactError
from inference.guard import Abstention, Guard, Limits, border_level
from inference.predictor import open_predictor
from tests.guarded_artefact import tiny_guard, write_guarded
from tests.tiny_artefact import TINY_ARTEFACT, phantoms
from web.pages import guard_words

BY_HAND = Guard(
    directions=np.array([[1], [0]], np.float32),
    means=np.array([[1, 2], [5, 5]], np.float32),
    scales=np.array([4, 0.25], np.float32),  # along the first axis 4, everywhere else 1/4
    turned=np.array([1, 1, -10], np.float32),
    limits=Limits(border=0.5, turned=0.0, distance=2.0, doubt=0.5),
    coverage=0.98,
    record={},
)


def test_distance_by_hand() -> None:
    features = np.array([[9.0, 4.0], [25.0, 25.0], [1.0, 9.0]], np.float32)  # square roots (3, 2), (5, 5), (1, 3)
    # From (1, 2): 2 along the first axis, 4/4 = 1; the second is the mean of the other class; the third 1/0.25 = 4.
    assert BY_HAND.distances(features) == pytest.approx([1.0, 0.0, 2.0])
    assert BY_HAND.turned_scores(features) == pytest.approx([-5.0, 0.0, -6.0])


@pytest.mark.parametrize(
    ("features", "probability", "border", "blank", "expected"),
    [
        ([9, 4], 0.9, 0.1, False, None),
        ([9, 4], 0.49, 0.1, False, Abstention.UNSURE),
        ([36, 25], 0.3, 0.1, False, Abstention.TURNED),
        ([1, 36], 0.3, 0.1, False, Abstention.UNLIKE_TRAINING),
        ([1, 36], 0.3, 0.6, False, Abstention.BRIGHT_BORDER),
        ([9, 4], 0.9, 0.6, True, Abstention.BLANK),
    ],
)
def test_the_first_reason_counts(
    features: list[float], probability: float, border: float, blank: bool, expected: Abstention | None
) -> None:
    judged = BY_HAND.judge(np.array(features, np.float32), probability, border, blank=blank)
    assert judged.abstention == expected
    assert set(judged.measures) == {"border", "distance", "turned", "doubt"}
    assert (max(judged.measures.values()) > 1) == (expected is not None)


def test_level_of_the_edge() -> None:
    head = phantoms(1, 300)[0, ..., 0]
    assert border_level(head) < 0.2
    assert border_level(1 - head) > 0.8
    assert border_level(np.full((9, 700), 0.4)) == 0.0, "a plain picture has no range to speak of"


def test_a_model_with_a_guard_says_why_it_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "guarded.neurosight"
    digest = write_guarded(path)
    picture = phantoms(1, 200)[0, ..., 0]
    with open_predictor(path, digest, "openvino", threads=1) as guarded, open_predictor(TINY_ARTEFACT) as plain:
        answered, refused, black = guarded.predict([picture, 1 - picture, np.zeros((40, 40))])
        unguarded = plain.predict([1 - picture])[0]

    assert (answered.abstention, refused.abstention) == (None, Abstention.BRIGHT_BORDER)
    assert black.abstention is Abstention.BLANK
    assert 0 < answered.attention.head_share <= 1
    assert answered.judgement.measures["border"] < 1 < refused.judgement.measures["border"]
    assert (unguarded.abstention, unguarded.judgement.measures) == (None, {}), "without a guard it always answers"
    assert unguarded.probabilities == refused.probabilities, "a guard changes no prediction"


def test_a_guard_goes_through_an_artefact_whole(tmp_path: Path) -> None:
    path = tmp_path / "guarded.neurosight"
    assert write_guarded(path) == write_guarded(path), "the same guard gives the same file"
    found = artefacts.load(path)
    assert found.guard is not None
    assert found.manifest.format_version == 2
    expected = tiny_guard(found)
    for name, array in expected.arrays().items():
        assert np.array_equal(found.guard.arrays()[name], array)
    assert found.guard.limits == expected.limits
    assert artefacts.load(TINY_ARTEFACT).guard is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts, _: facts["limits"].update(distance=0), "distance of the guard is 0; expected a number above 0"),
        (lambda facts, _: facts["limits"].update(doubt=2), "doubt of the guard is 2"),
        (lambda facts, _: facts["limits"].pop("turned"), "guard.limits is .*; expected border, turned"),
        (lambda facts, _: facts.pop("coverage"), "guard holds .*; expected limits, coverage and record"),
        (lambda _, arrays: arrays.update(means=arrays["means"][:2]), r"guard\.npz: means has shape \(2, "),
        (lambda _, arrays: arrays.update(scales=-arrays["scales"]), "scales holds values that are not above 0"),
        (lambda _, arrays: arrays.pop("turned"), r"guard\.npz holds .*; expected"),
        (lambda _, arrays: arrays.update(means=arrays["means"] * np.nan), r"guard\.npz: means holds NaN"),
    ],
)
def test_a_guard_that_is_not_whole_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "guarded.neurosight"
    write_guarded(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    with np.load(io.BytesIO(members["guard.npz"])) as archived:
        arrays = dict(archived)
    change(manifest["guard"], arrays)
    content = io.BytesIO()
    np.savez(content, **arrays)
    members["guard.npz"] = content.getvalue()
    manifest["members"]["guard.npz"] = {
        "sha256": hashlib.sha256(members["guard.npz"]).hexdigest(),
        "size_bytes": len(members["guard.npz"]),
    }
    members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)

    with pytest.raises(ArtefactError, match=message):
        artefacts.load(path)


def test_a_guard_that_the_manifest_does_not_mention_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "guarded.neurosight"
    write_guarded(path)
    with zipfile.ZipFile(path) as archive:
        guard = archive.read("guard.npz")
    path.write_bytes(TINY_ARTEFACT.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("guard.npz", guard)
    with pytest.raises(ArtefactError, match=r"manifest\.json describes"):
        artefacts.load(path)


def test_limits_of_another_kind_are_kept(tmp_path: Path) -> None:
    tiny = artefacts.load(TINY_ARTEFACT)
    guard = replace(tiny_guard(tiny), limits=Limits(0.4, -3.0, 12.5, 0.3), record={"note": [1, 2]})
    path = tmp_path / "other.neurosight"
    artefacts.write(
        path, replace(tiny.manifest, members={}), tiny.weights(), tiny.openvino_xml, tiny.openvino_bin, "# Card", guard
    )
    again = artefacts.load(path).guard
    assert again is not None
    assert (again.limits, again.record) == (guard.limits, {"note": [1, 2]})


def test_pages_know_every_code() -> None:
    assert set(guard_words.ABSTENTIONS) == set(Abstention)
    assert set(guard_words.HEATMAP_WARNINGS) == set(HeatmapWarning)
    assert set(guard_words.CHECKS) == set(Limits.__dataclass_fields__)
