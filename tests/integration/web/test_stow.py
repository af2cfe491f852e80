"""STOW-RS: what each status promises, and that every instance is named in the answer."""

import io
from typing import Any

import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import UID, SecondaryCaptureImageStorage
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from db.jobs import Job
from db.receptions import Reception
from db.uploads import UploadFile
from imaging.dicom_uids import is_uid
from tests.unit.imaging.dicom_files import mr, ramp
from tests.web_world import World
from worker.housekeeping import Housekeeper

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

DICOM = "application/dicom"


def instance(number: int, study: str = "2.25.5", **attributes: Any) -> bytes:
    """One instance of a study."""
    said: dict[str, Any] = {"StudyInstanceUID": study, "SOPInstanceUID": f"2.25.5.{number}", "InstanceNumber": number}
    file: FileDataset = mr(ramp(16, 16) + number, **{**said, **attributes})
    file.file_meta.MediaStorageSOPInstanceUID = UID(file.SOPInstanceUID)
    out = io.BytesIO()
    file.save_as(out)
    return out.getvalue()


def stow(world: World, *parts: bytes, study: str = "", part_type: str = DICOM, **headers: str) -> TestResponse:
    body = b"".join(b"--b\r\nContent-Type: %s\r\n\r\n" % part_type.encode() + part + b"\r\n" for part in parts)
    address = f"/dicomweb/studies/{study}" if study else "/dicomweb/studies"
    return world.ask(
        world.people["ann"],
        "POST",
        address,
        data=body + b"--b--",
        headers={"Content-Type": f'multipart/related; type="{DICOM}"; boundary=b', "Accept": "*/*", **headers},
    )


def named(answer: TestResponse, tag: str) -> list[str]:
    """SOP Instance UIDs of a sequence of the answer."""
    items = (answer.get_json(force=True) or {}).get(tag, {"Value": []})["Value"]
    return [item["00081155"]["Value"][0] if "00081155" in item else "" for item in items]


def reasons(answer: TestResponse, tag: str) -> list[tuple[int, str]]:
    items = (answer.get_json(force=True) or {})[tag]["Value"]
    return [(item["00081197"]["Value"][0], item["00091001"]["Value"][0]) for item in items]


def kept(world: World) -> list[str]:
    with world.database.read() as db:
        return list(db.scalars(select(UploadFile.path).order_by(UploadFile.path)))


STORED, FAILED, OTHERS = "00081199", "00081198", "0008119A"


def test_a_study_in_several_requests_becomes_one_job(world: World) -> None:
    first = stow(world, instance(1), instance(2))
    assert (first.status_code, first.content_type) == (200, "application/dicom+json")
    assert named(first, STORED) == ["2.25.5.1", "2.25.5.2"]
    assert set(first.get_json(force=True)) == {STORED}
    assert stow(world, instance(3), study="2.25.5").status_code == 200
    again = stow(world, instance(1), instance(2))
    assert (again.status_code, named(again, STORED)) == (200, ["2.25.5.1", "2.25.5.2"])
    assert kept(world) == ["2.25.5.1.dcm", "2.25.5.2.dcm", "2.25.5.3.dcm"], "what is sent again is there once"
    with Housekeeper(world.settings.model_copy(update={"study_quiet_s": -1.0})) as keeper:
        keeper.complete_studies()
    world.work()
    ann = world.people["ann"]
    (job,) = world.json(ann, "/api/v1/jobs")["jobs"]
    assert (job["title"], job["state"], job["slices"]["total"]) == ("DICOMweb", "succeeded", 3)
    assert all(is_uid(line["path"].removesuffix(".dcm")) for line in world.json(ann, job["links"]["receipt"])["files"])

    # The whole study once more: its own submission, recognised as the one that was sent before.
    stow(world, instance(1), instance(2), instance(3))
    with Housekeeper(world.settings.model_copy(update={"study_quiet_s": -1.0})) as keeper:
        keeper.complete_studies()
    world.work()
    newest = world.json(ann, "/api/v1/jobs")["jobs"][0]
    assert newest["duplicate_of"] == job["id"]


def test_every_refused_instance_is_named_with_its_reason(world: World) -> None:
    report = instance(12, Modality="SR", PixelData=None)
    moved = instance(13, StudyInstanceUID="2.25.6")
    strange = instance(14).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.7\0", 1)
    unnamed = instance(15, StudyInstanceUID=None)
    answer = stow(
        world, instance(10), instance(11, Modality="CT"), report, moved, strange, unnamed, b"GIF89a",
        study="2.25.5",
    )  # fmt: skip
    assert answer.status_code == 202, answer.text
    assert named(answer, STORED) == ["2.25.5.10"]
    assert named(answer, FAILED) == [f"2.25.5.{number}" for number in (11, 12, 13, 14)]
    found = reasons(answer, FAILED)
    assert [reason for reason, _ in found] == [0x0122, 0x0122, 0xA900, 0xC122]
    assert "modality CT; only MR" in found[0][1]
    assert "holds no picture; send the image series" in found[1][1]
    assert "StudyInstanceUID is not the one of the address" in found[2][1]
    assert "which is not read; export it uncompressed" in found[3][1]
    assert reasons(answer, OTHERS) == [
        (0xC000, "StudyInstanceUID is missing"),
        (0xC000, "no DICOM file: the letters DICM are not at byte 128"),
    ]
    assert kept(world) == ["2.25.5.10.dcm"]
    alone = stow(world, instance(16, Modality="CT"))
    assert (alone.status_code, named(alone, FAILED)) == (409, ["2.25.5.16"])
    assert kept(world) == ["2.25.5.10.dcm"]
    assert SecondaryCaptureImageStorage not in answer.text


def test_requests_that_are_none(world: World) -> None:
    def code(answer: TestResponse) -> tuple[int, str]:
        assert answer.content_type == "application/problem+json", answer.text
        return answer.status_code, (answer.json or {})["code"]

    kind = f'multipart/related; type="{DICOM}"'
    assert code(stow(world)) == (400, "empty_submission")
    assert code(stow(world, instance(1), study="1.2.x")) == (400, "malformed_uid")
    assert code(stow(world, instance(1), **{"Content-Type": f"{kind}; boundary=c"})) == (400, "malformed_multipart")
    assert code(stow(world, instance(1), **{"Content-Type": kind})) == (400, "malformed_multipart")
    assert code(stow(world, instance(1), **{"Content-Type": DICOM})) == (415, "not_related")
    json_type = 'multipart/related; type="application/dicom+json"; boundary=b'
    assert code(stow(world, instance(1), **{"Content-Type": json_type})) == (415, "not_related")
    assert code(stow(world, instance(1), part_type="image/jpeg")) == (415, "not_related")
    assert code(stow(world, instance(1), Accept="application/dicom+xml")) == (406, "not_acceptable")
    assert world.ask(None, "POST", "/dicomweb/studies").status_code == 401
    small = world.settings.model_copy(update={"max_file_bytes": 1024})
    parts = world.app.extensions["neurosight"]
    parts.settings = small
    assert code(stow(world, instance(1) + b"\0" * 2000)) == (413, "file_too_large")
    with world.database.read() as db:
        assert [db.scalar(select(func.count()).select_from(model)) for model in (Reception, Job, UploadFile)] == [
            0,
            0,
            0,
        ]
    assert list((world.settings.var_dir / "blobs" / "incoming").iterdir()) == [], "nothing is left of a refused body"
