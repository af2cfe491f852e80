"""Fetching studies by accession number from real archives: dcmtk's dcmqrscp by C-GET, Orthanc by C-GET and WADO-RS."""

import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import dcmread
from sqlalchemy import select

from config.queues import QUEUE_TRANSFER
from db.exchange import RetrievalLine
from db.jobs import ReceivedFile, WorkItem
from db.states import ItemState, Role
from tests.archives import QueryScp, need, orthanc, query_scp
from tests.integration.web.test_dicom_export import slices_of_a_patient
from tests.integration.web.test_sending import enter, sent
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes
from tests.web_world import World
from tests.work_rig import context_for
from worker.work import turn


def asked(site: World, peer: str, numbers: list[str], who: str = "ann", **more: str) -> dict[str, Any]:
    """A list that was asked for."""
    document = {"peer_id": peer, "accession_numbers": numbers, **more}
    answer = site.ask(site.people[who], "POST", "/api/v1/retrievals", json=document)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json or {}
    return made


def fetched(site: World, peer: str, numbers: list[str], who: str = "ann") -> list[dict[str, Any]]:
    """The lines of a list after the workers had their turn."""
    made = asked(site, peer, numbers, who)
    site.work()
    lines: list[dict[str, Any]] = site.json(site.people[who], f"/api/v1/retrievals/{made['id']}")["lines"]
    return lines


def filled(archive: QueryScp, folder: Path, packed: bool = False) -> None:
    """Three slices of ACC-9 in one study, one of ACC-10 in another; one slice of the first as RLE if wished."""
    folder.mkdir()
    for name, data in slices_of_a_patient(3).items():
        (folder / name).write_bytes(data)
    other = mr(ramp(64, 64), StudyInstanceUID="2.25.8", SeriesInstanceUID="2.25.81", SOPInstanceUID="2.25.82")
    other.AccessionNumber, other.PatientID, other.StudyID = "ACC-10", "P-18", "S2"
    (folder / "other.dcm").write_bytes(to_bytes(other))
    if packed:
        need("dcmcrle", "dcmtk")
        apart = folder.parent / "packed"
        apart.mkdir()
        subprocess.run(["dcmcrle", folder / "1.dcm", apart / "1.dcm"], check=True, capture_output=True)
        (folder / "1.dcm").unlink()
        archive.fill(apart, "-xr")
    archive.fill(folder)


def test_each_number_gets_its_line(site: World, tmp_path: Path) -> None:
    ann = site.people["ann"]
    with query_scp(tmp_path) as archive:
        filled(archive, tmp_path / "files", packed=True)
        peer = enter(site, "dcmqrscp", archive.address)
        whole, other, unknown = fetched(site, peer, ["ACC-9", "ACC-10", "ACC-0"])
        assert (whole["state"], whole["studies"], whole["fetched"], whole["expected"]) == ("done", 1, 3, 3)
        assert (other["state"], other["studies"], other["fetched"], other["expected"]) == ("done", 1, 1, 1)
        assert (unknown["state"], unknown["code"], unknown["jobs"]) == ("failed", "number_not_found", [])
        job = site.json(ann, f"/api/v1/jobs/{whole['jobs'][0]}")
        assert (job["state"], job["slices"]["done"]) == ("succeeded", 3)
        with site.database.read() as db:
            files = db.scalars(select(ReceivedFile).where(ReceivedFile.job_id.is_not(None))).all()
            assert {row.outcome for row in files} == {"accepted"}
        blobs = [path for path in (site.settings.var_dir / "blobs").rglob("*") if path.is_file()]
        syntaxes = {str(dcmread(path, force=True).file_meta.get("TransferSyntaxUID", "")) for path in blobs}
        assert "1.2.840.10008.1.2.5" in syntaxes, "what lay packed comes as it lay"
        refused = site.ask(ann, "POST", "/api/v1/retrievals", json={"peer_id": peer, "accession_numbers": ["ACC*"]})
        assert (refused.status_code, (refused.json or {})["code"]) == (422, "number_unusable")
        lists = site.ask(ann, "GET", "/retrievals").text
        assert "1 not complete" in lists
        made = asked(site, peer, ["ACC-10"])
        bob = site.add("bob", Role.SUBMITTER)
        assert site.ask(bob, "GET", f"/api/v1/retrievals/{made['id']}").status_code == 404
        assert "ACC-10" in site.ask(site.people["clara"], "GET", f"/retrievals/{made['id']}").text
        assert (site.ask(ann, "POST", f"/api/v1/retrievals/{made['id']}/stop").json or {})["lines"][0]["code"] == (
            "retrieval_cancelled"
        )
        again = site.ask(ann, "POST", f"/api/v1/retrievals/{made['id']}/again")
        assert again.status_code == 202
        site.work()
        assert site.json(ann, f"/api/v1/retrievals/{made['id']}")["lines"][0]["state"] == "done"
    assert site.audited("retrieval.ask", "ok") == 3
    assert site.audited("retrieval.fetched", "failed") == 1


def test_a_retrieval_that_was_cut_short_goes_on(site: World, tmp_path: Path) -> None:
    with query_scp(tmp_path) as archive:
        filled(archive, tmp_path / "files")
        peer = enter(site, "dcmqrscp", archive.address)
        made = asked(site, peer, ["ACC-9"])
        context = context_for(site.settings, (QUEUE_TRANSFER,))
        try:
            from exchange import dimse_archive
            from exchange.peering import PeerUnavailable

            whole = dimse_archive.DimseArchive.fetch

            def half(self: dimse_archive.DimseArchive, study: str, wanted: Any, keep: Any) -> None:
                whole(self, study, wanted[:1], keep)
                raise PeerUnavailable("peer_silent", "cut")

            dimse_archive.DimseArchive.fetch = half  # type: ignore[method-assign, assignment]
            try:
                assert turn(context, turn_s=0.0) == 1
            finally:
                dimse_archive.DimseArchive.fetch = whole  # type: ignore[method-assign]
            line = site.json(site.people["ann"], f"/api/v1/retrievals/{made['id']}")["lines"][0]
            assert (line["state"], line["code"], line["expected"]) == ("pending", "peer_silent", 3)
            assert turn(context, turn_s=0.0) == 1
        finally:
            context.close()
        line = site.json(site.people["ann"], f"/api/v1/retrievals/{made['id']}")["lines"][0]
        assert (line["state"], line["fetched"], len(line["jobs"])) == ("done", 3, 1)


def test_orthanc_over_dimse_and_dicomweb_without_what_we_sent_there(site: World, tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc") as archive:
        for data in slices_of_a_patient(2).values():
            archive.ask("/instances", data)
        web = enter(site, "web", archive.web, "dicomweb", secret_name="orthanc")
        dimse = enter(site, "dimse", archive.dimse)
        (line,) = fetched(site, web, ["ACC-9"])
        assert (line["state"], line["fetched"], line["expected"]) == ("done", 2, 2), line
        job = site.json(site.people["ann"], f"/api/v1/jobs/{line['jobs'][0]}")
        assert job["state"] == "succeeded"
        study = f"/api/v1/studies/{job['studies'][0]['id']}"
        assert sent(site, study, web)["state"] == "done"
        assert len(archive.ask("/instances")) == 5
        for peer in (web, dimse):
            (again,) = fetched(site, peer, ["ACC-9"])
            assert (again["state"], again["fetched"], again["expected"]) == ("done", 2, 2), again
        (nothing,) = fetched(site, web, ["ACC-0"])
        assert nothing["code"] == "number_not_found"


def test_off_peak_waits_for_its_hours(site: World) -> None:
    hour = datetime.now().astimezone().hour
    site.settings.__dict__["off_peak_from_hour"], site.settings.__dict__["off_peak_to_hour"] = (
        (hour + 2) % 24,
        (hour + 3) % 24,
    )
    peer = enter(site, "nobody", "NOBODY@127.0.0.1:1")
    made = asked(site, peer, ["ACC-9"], priority="off_peak")
    site.work()
    with site.database.read() as db:
        item = db.scalars(select(WorkItem).where(WorkItem.queue == QUEUE_TRANSFER)).one()
        assert (item.state, item.attempts) == (ItemState.PENDING, 0)
        assert item.not_before is not None
        line = db.scalars(select(RetrievalLine)).one()
        assert line.accession_number == "ACC-9"
    assert site.json(site.people["ann"], f"/api/v1/retrievals/{made['id']}")["waiting"]
