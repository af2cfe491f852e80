"""Results out as DICOM: the zip of a study, judged by pydicom and by dcmtk's own readers."""

import io
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ComprehensiveSRStorage, MRImageStorage, SecondaryCaptureImageStorage
from sqlalchemy import select

from config.queues import QUEUE_INTAKE
from db.checkpoints import Checkpoint
from db.registry import Withdrawal
from db.studies import Study
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes
from tests.web_world import World
from tests.work_rig import context_for, pictures
from worker.work import turn

MARK = "AI - NOT REVIEWED - RESEARCH USE ONLY"


def slices_of_a_patient(count: int) -> dict[str, bytes]:
    """One series of one study, with identity."""
    return {
        f"{number}.dcm": to_bytes(
            mr(
                np.roll(ramp(64, 64), 7 * number, axis=1),
                SOPInstanceUID=f"2.25.30{number}",
                InstanceNumber=number,
                PatientName="Doe^Jané",
                PatientID="P-17",
                PatientBirthDate="19700101",
                PatientSex="F",
                AccessionNumber="ACC-9",
                StudyDate="20260102",
                StudyTime="101112",
                StudyID="S1",
                SpecificCharacterSet="ISO_IR 192",
            )
        )
        for number in range(1, count + 1)
    }


def unpacked(world: World, files: dict[str, bytes], who: str = "ann") -> tuple[dict[str, bytes], str]:
    """The zip of a new study's results by name, and its address."""
    job = world.finished(world.people[who], files)
    address = f"/api/v1/studies/{job['studies'][0]['id']}/dicom.zip"
    answer = world.ask(world.people["clara"], "GET", address)
    assert (answer.status_code, answer.content_type) == (200, "application/zip"), answer.text
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}, address


def read(data: bytes) -> Dataset:
    return dcmread(io.BytesIO(data))


def concepts(item: Dataset) -> list[tuple[str, Any]]:
    """(name, value) of every content item below, in order."""
    found: list[tuple[str, Any]] = []
    for child in item.get("ContentSequence", []):
        name = child.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in child else ""
        value: Any = None
        if child.ValueType == "CODE":
            value = child.ConceptCodeSequence[0].CodeValue
        elif child.ValueType == "TEXT":
            value = child.TextValue
        elif child.ValueType == "NUM":
            value = float(child.MeasuredValueSequence[0].NumericValue)
        elif child.ValueType == "IMAGE":
            value = str(child.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        found += [(name, value), *concepts(child)]
    return found


def test_report_and_captures_of_a_dicom_study(world: World, tmp_path: Path) -> None:
    files, address = unpacked(world, slices_of_a_patient(3))
    assert sorted(files) == ["README.txt", "capture-0001.dcm", "capture-0002.dcm", "capture-0003.dcm", "report.dcm"]
    results = world.json(world.people["clara"], address.replace("dicom.zip", "results"))
    predictions = {row["sop_instance_uid"]: row["prediction"] for row in results["slices"]}

    report = read(files["report.dcm"])
    assert report.SOPClassUID == ComprehensiveSRStorage
    assert (report.VerificationFlag, report.CompletionFlag, report.PreliminaryFlag) == (
        "UNVERIFIED",
        "PARTIAL",
        "PRELIMINARY",
    )
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.StudyInstanceUID, report.SeriesDescription) == ("2.25.1", MARK)
    assert report.SeriesInstanceUID not in ("2.25.2", "")
    assert (str(report.PatientName), report.PatientID, report.AccessionNumber) == ("Doe^Jané", "P-17", "ACC-9")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == "2.25.1"
    referenced = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert evidence.ReferencedSeriesSequence[0].SeriesInstanceUID == "2.25.2"
    assert {(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in referenced} == {
        (MRImageStorage, uid) for uid in predictions
    }
    said = concepts(report)
    images = [value for name, value in said if name == "Source of Measurement"]
    classes = [value for name, value in said if name == "Finding"]
    numbers = [value for name, value in said if name.startswith("Calibrated probability")]
    assert images == [row["sop_instance_uid"] for row in results["slices"]]
    assert classes == [predictions[uid]["class_name"] for uid in images]
    assert numbers == pytest.approx([predictions[uid]["probability"] for uid in images], abs=1e-6)
    assert [value for name, value in said if name == "Review status"] == ["not_reviewed"] * 3
    assert ("Algorithm Parameters", f"model SHA-256: {results['model']['digest']}") in said
    assert {value for name, value in said if name == "Algorithm Name"} == {results["model"]["name"]}

    captures = [read(files[f"capture-000{number}.dcm"]) for number in (1, 2, 3)]
    assert len({ds.SOPInstanceUID for ds in captures}) == 3
    assert {ds.SeriesInstanceUID for ds in captures}.isdisjoint({"2.25.2", report.SeriesInstanceUID})
    for ds, uid in zip(captures, images, strict=True):
        assert ds.SOPClassUID == SecondaryCaptureImageStorage
        assert (ds.StudyInstanceUID, ds.PatientID, ds.BurnedInAnnotation) == ("2.25.1", "P-17", "YES")
        assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == uid
        assert ds.pixel_array.shape == (ds.Rows, ds.Columns, 3)
        bar = ds.pixel_array[:20]
        assert bar.max() > 200, "nothing is burned in"
        assert (bar == 0).mean() > 0.4

    again = world.ask(world.people["clara"], "GET", address).data
    with zipfile.ZipFile(io.BytesIO(again)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files, "the same results, other objects"
    assert world.audited("study.export", "ok") == 2

    if shutil.which("dsrdump") is None:
        pytest.skip("the rest needs dcmtk (dsrdump, dcmdump): apt-get install dcmtk")
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    shown = subprocess.run(["dsrdump", "-Ei", tmp_path / "report.dcm"], capture_output=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count(b"AI - NOT REVIEWED - RESEARCH USE ONLY") >= 3
    assert b"E:" not in shown.stderr
    for name in ("report.dcm", "capture-0001.dcm"):
        dumped = subprocess.run(["dcmdump", "-q", tmp_path / name], capture_output=True, check=False)
        assert dumped.returncode == 0, dumped.stderr


def test_an_odd_identity_makes_valid_objects_and_no_noise(
    world: World, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    odd = to_bytes(
        mr(ramp(64, 64), PatientName="MARKEDNAME", PatientID="MARKEDNUMBER" * 5, StudyID="1", StudyDate="20260102")
    )
    files, _ = unpacked(world, {"one.dcm": odd})
    for name in ("report.dcm", "capture-0001.dcm"):
        found = read(files[name])
        assert (str(found.PatientName), found.PatientID) == ("MARKEDNAME", "MARKEDNUMBER" * 5)
    said = "".join(capfd.readouterr()) + "".join(str(warning.message) for warning in recwarn)
    assert "MARKED" not in said


def test_frames_of_one_file_are_referred_to_one_by_one(world: World) -> None:
    both = np.stack([ramp(64, 64), ramp(64, 64)[:, ::-1]])
    files, _ = unpacked(world, {"frames.dcm": to_bytes(mr(both))})
    captures = [read(files[f"capture-000{number}.dcm"]) for number in (1, 2)]
    assert [ds.SourceImageSequence[0].ReferencedFrameNumber for ds in captures] == [1, 2]
    report = read(files["report.dcm"])
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == ["2.25.3"]
    frames = [int(item.value) for item in report.iterall() if item.keyword == "ReferencedFrameNumber"]
    assert frames == [1, 2]


def test_pictures_without_a_study_get_one_and_it_is_said(world: World) -> None:
    files, _ = unpacked(world, pictures(2))
    report, capture = read(files["report.dcm"]), read(files["capture-0001.dcm"])
    assert report.StudyInstanceUID == capture.StudyInstanceUID
    assert report.StudyInstanceUID.startswith("2.25.")
    assert report.PatientID == ""
    series = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == capture.SeriesInstanceUID
    assert capture.SOPInstanceUID in {item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence}
    assert b"was made for them" in files["README.txt"]
    assert b"slice 1.png" not in b"".join(files.values()), "a file name may tell who it is of"


def test_who_may_have_it_and_nothing_of_a_withdrawn_model_goes_out(world: World) -> None:
    ann, clara = world.people["ann"], world.people["clara"]
    study = world.finished(ann)["studies"][0]["id"]
    address, page = f"/api/v1/studies/{study}/dicom.zip", f"/studies/{study}"
    assert world.ask(ann, "GET", address).status_code == 403
    assert address not in world.ask(ann, "GET", page).text
    assert address in world.ask(clara, "GET", page).text
    with world.database.write() as db:
        (checkpoint,) = db.scalars(select(Checkpoint)).all()
        db.add(Withdrawal(checkpoint_id=checkpoint.id, reason="misses gliomas"))
    answer = world.ask(clara, "GET", address)
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "withdrawn")
    assert address not in world.ask(clara, "GET", page).text


def test_before_the_first_result_there_is_nothing_to_export(world: World) -> None:
    ann = world.people["ann"]
    world.send(ann)
    context = context_for(world.settings, (QUEUE_INTAKE,))
    try:
        turn(context)
    finally:
        context.close()
    with world.database.read() as db:
        study = db.scalars(select(Study.id)).one()
    answer = world.ask(world.people["clara"], "GET", f"/api/v1/studies/{study}/dicom.zip")
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "no_results")
