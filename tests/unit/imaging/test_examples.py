"""The example studies: complete, readable, clearly invented, from patients the shipped model never saw."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from imaging.collect import collect
from imaging.limits import Limits
from imaging.outcomes import Outcome, RejectedFile
from imaging.reading import inspect, read_frame

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
LIMITS = Limits()

with (EXAMPLES / "provenance.csv").open(newline="", encoding="utf-8") as _file:
    ROWS = list(csv.DictReader(_file))


def test_four_patients_three_planes_three_labels() -> None:
    patients = defaultdict(set)
    for row in ROWS:
        patients[row["dicom"].split("/")[0]].add(row["plane"])
    assert set(patients) == {"one", "two", "three", "four"}
    assert all(planes == {"axial", "coronal", "sagittal"} for planes in patients.values())
    assert {row["label"] for row in ROWS} == {"glioma", "meningioma", "pituitary"}


def test_the_model_never_saw_these_patients() -> None:
    with (ROOT / "models" / "neurosight.split.csv").open(newline="", encoding="utf-8") as file:
        parts = defaultdict(set)
        for row in csv.DictReader(file):
            parts[row["patient"]].add(row["split"])
    for row in ROWS:
        assert parts[row["source_patient"]] == {"test"}


@pytest.mark.parametrize("row", ROWS, ids=[row["dicom"] for row in ROWS])
def test_dicom_and_picture_are_the_same_slice(row: dict[str, str]) -> None:
    dicom = read_frame(EXAMPLES / row["dicom"], 0, LIMITS)
    picture = read_frame(EXAMPLES / row["picture"], 0, LIMITS)
    assert dicom.plane == row["plane"]
    assert dicom.position_mm is not None
    difference = np.abs(dicom.pixels - picture.pixels)
    lossy = row["picture"].endswith(".jpg")
    assert difference.mean() < (4e-3 if lossy else 2e-4)
    assert difference.max() < (0.06 if lossy else 1e-3)
    assert dicom.pixels.std() > 0.05


def test_headers_are_invented_and_say_so() -> None:
    studies, series, instances = set(), Counter[str](), set()
    for path in sorted(EXAMPLES.glob("*/dicom/*/*.dcm")):
        ds = dcmread(path)
        assert str(ds.PatientName).startswith("EXAMPLE^")
        assert ds.PatientID.startswith("EXAMPLE-")
        assert "Header synthetic" in ds.PatientComments
        assert "CC BY 4.0" in ds.PatientComments
        info = inspect(path, LIMITS)
        assert info.dicom is not None
        for uid in (info.dicom.study_instance_uid, info.dicom.series_instance_uid, info.dicom.sop_instance_uid):
            assert uid is not None
            assert uid.startswith("2.25.")
        studies.add(ds.StudyInstanceUID)
        series[ds.SeriesInstanceUID] += 1
        instances.add(ds.SOPInstanceUID)
    assert (len(studies), len(series), len(instances)) == (4, 12, len(ROWS))


def test_the_attribution_stands_beside_them() -> None:
    words = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for needed in ("Jun Cheng", "10.6084/m9.figshare.1512427", "CC BY 4.0", "synthetic", "Research use only"):
        assert needed in words
    size_bytes = sum(path.stat().st_size for path in EXAMPLES.rglob("*") if path.is_file())
    assert size_bytes < 12_000_000


def test_the_mixed_folder_shows_every_kind_of_line_in_a_receipt(tmp_path: Path) -> None:
    outcomes = Counter[Outcome]()
    for one in collect([EXAMPLES / "mixed"], LIMITS, tmp_path, flag_duplicates=True):
        outcome = one.outcome
        if one.local_path is not None:
            try:
                inspect(one.local_path, LIMITS)
            except RejectedFile as refused:
                outcome = refused.outcome
        outcomes[outcome] += 1
    assert outcomes == {
        Outcome.ACCEPTED: 4,
        Outcome.DUPLICATE: 1,
        Outcome.IGNORED: 3,
        Outcome.NOT_AN_IMAGE: 2,
        Outcome.UNREADABLE: 2,
        Outcome.UNSUPPORTED: 1,
        Outcome.UNSAFE_NAME: 1,
        Outcome.EMPTY: 1,
        Outcome.OVER_LIMIT: 1,
    }
