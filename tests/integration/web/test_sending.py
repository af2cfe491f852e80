"""Sending results to real archives: dcmtk's storescp and Orthanc, over DIMSE and DICOMweb."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage
from sqlalchemy import select

from config.queues import QUEUE_TRANSFER
from db.exchange import SentObject
from db.jobs import WorkItem
from db.states import ItemState
from tests.archives import Orthanc, free_port, orthanc, store_scp
from tests.integration.web.test_dicom_export import slices_of_a_patient
from tests.web_world import World
from tests.work_rig import context_for
from worker.work import turn

MARK = "AI - NOT REVIEWED - RESEARCH USE ONLY"


def analysed(site: World, slices: int = 2) -> str:
    """A finished study's address in the API."""
    return str(f"/api/v1/studies/{site.finished(site.people['ann'], slices_of_a_patient(slices))['studies'][0]['id']}")


def enter(site: World, name: str, address: str, kind: str = "dimse", **more: str) -> str:
    """Enters an archive as an admin does; returns its id."""
    form = {"name": name, "kind": kind, "address": address, **more}
    answer = site.ask(site.people["ada"], "POST", "/admin/peers", data=form)
    assert answer.status_code == 303, answer.text
    known = site.json(site.people["clara"], "/api/v1/peers")["peers"]
    return next(str(peer["id"]) for peer in known if peer["name"] == name)


def tried(site: World, peer: str) -> str:
    """What the page says after the connection was tried."""
    browser, ada = site.client(), site.people["ada"]
    answer = browser.post(f"/admin/peers/{peer}/try", headers=ada.headers, follow_redirects=False)
    assert answer.status_code == 303
    return browser.get("/admin/peers", headers=ada.headers).text


def asked(site: World, study: str, peer: str, **more: str) -> dict[str, Any]:
    """A sending that was asked for."""
    answer = site.ask(site.people["clara"], "POST", f"{study}/sendings", json={"peer_id": peer, **more})
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json or {}
    return made


def sent(site: World, study: str, peer: str, **more: str) -> dict[str, Any]:
    """A sending after the worker had its turn."""
    made = asked(site, study, peer, **more)
    site.work()
    return site.json(site.people["clara"], f"{study}/sendings/{made['id']}")


def test_results_reach_an_archive_once_and_whole(site: World, tmp_path: Path) -> None:
    study = analysed(site, 3)
    with store_scp(tmp_path) as archive:
        peer = enter(site, "dcmtk", archive.address)
        assert "dcmtk answered: 0x0000" in tried(site, peer)
        assert archive.received() == [], "something was sent that nobody asked for"
        made = asked(site, study, peer)
        again = site.ask(site.people["clara"], "POST", f"{study}/sendings", json={"peer_id": peer})
        assert (again.status_code, (again.json or {})["code"]) == (409, "sending_waits")
        page = site.ask(site.people["clara"], "GET", study.replace("/api/v1", "") + "/sendings").text
        assert "No transfer worker is running" in page
        site.work()
        first = site.json(site.people["clara"], f"{study}/sendings/{made['id']}")
        assert (first["state"], first["code"]) == ("done", "")
        assert [(item["state"], item["status"]) for item in first["objects"]] == [("stored", "0x0000")] * 4
        received = {str(ds.SOPInstanceUID): ds for ds in archive.received()}
        assert set(received) == {item["sop_instance_uid"] for item in first["objects"]}
        kinds = [ds.SOPClassUID for ds in received.values()]
        assert sorted(kinds) == sorted([ComprehensiveSRStorage] + [SecondaryCaptureImageStorage] * 3)
        for ds in received.values():
            assert (ds.StudyInstanceUID, ds.PatientID, ds.SeriesDescription) == ("2.25.1", "P-17", MARK)
        second = sent(site, study, peer)
        assert [item["sop_instance_uid"] for item in second["objects"]] == [
            item["sop_instance_uid"] for item in first["objects"]
        ]
        assert len(archive.received()) == 4, "sent twice, stored twice"
        only = sent(site, study, peer, content="report")
        assert [item["kind"] for item in only["objects"]] == ["report"]
    assert site.audited("study.send", "ok", study.rpartition("/")[2]) == 3
    assert site.audited("study.sent", "ok", study.rpartition("/")[2]) == 3
    report = next(path for path in (tmp_path / "received").iterdir() if path.name.startswith("SR"))
    for program, path in (("dsrdump", report), ("dcmdump", report)):
        if shutil.which(program):
            assert subprocess.run([program, "-q", path], capture_output=True, check=False).returncode == 0
    if shutil.which("dciodvfy"):
        for path in (tmp_path / "received").iterdir():
            said = subprocess.run(["dciodvfy", path], capture_output=True, check=False, text=True).stderr
            assert [line for line in said.splitlines() if line.startswith("Error")] == [], path.name


def test_orthanc_takes_results_over_dimse_and_dicomweb(site: World, tmp_path: Path) -> None:
    study = analysed(site)
    with orthanc(tmp_path / "orthanc") as archive:
        dimse = enter(site, "Orthanc DIMSE", archive.dimse)
        web = enter(site, "Orthanc web", archive.web, "dicomweb", secret_name="orthanc")
        wrong = enter(site, "Orthanc, wrong secret", archive.web, "dicomweb", secret_name="wrong")
        nowhere = enter(
            site, "no service", archive.web.replace("dicom-web", "elsewhere"), "dicomweb", secret_name="orthanc"
        )
        assert "Orthanc web answered: HTTP 200" in tried(site, web)
        assert "refuses access (HTTP 401)" in tried(site, wrong)
        assert "no DICOMweb service at this address (HTTP 404)" in tried(site, nowhere)
        by_dimse = sent(site, study, dimse)
        assert [item["status"] for item in by_dimse["objects"]] == ["0x0000"] * 3
        by_web = sent(site, study, web)
        assert by_web["state"] == "done", by_web
        assert [item["status"] for item in by_web["objects"]] == ["0x0000"] * 3
        assert len(archive.ask("/instances")) == 3, "the same UIDs are the same objects, whichever way they came"
        denied = sent(site, study, wrong)
        assert (denied["state"], denied["code"]) == ("failed", "peer_denied")
        (known,) = archive.ask("/studies")
        tags = archive.ask(f"/studies/{known}")
        assert tags["MainDicomTags"]["StudyInstanceUID"] == "2.25.1"
        assert tags["PatientMainDicomTags"]["PatientID"] == "P-17"
        assert len(tags["Series"]) == 2
    assert Orthanc.SECRET not in site.ask(site.people["ada"], "GET", "/admin/peers").text


def test_an_archive_that_is_away_gets_it_when_it_is_back(site: World, tmp_path: Path) -> None:
    """Also after a worker that was killed half-way: what was answered for is not sent again."""
    study, port = analysed(site, 3), free_port()
    peer = enter(site, "away", f"STORESCP@127.0.0.1:{port}")
    assert "cannot be reached" in tried(site, peer)
    made = asked(site, study, peer)
    context = context_for(site.settings, (QUEUE_TRANSFER,))
    try:
        assert turn(context, turn_s=0.0) == 1
        waiting = site.json(site.people["clara"], f"{study}/sendings/{made['id']}")
        assert (waiting["state"], waiting["code"]) == ("pending", "peer_unreachable")
        with site.database.write() as db:  # as a worker that died after the first answer left it
            first = db.scalars(select(SentObject).order_by(SentObject.sequence)).first()
            assert first is not None
            first.state, first.status = "stored", "0x0000"  # type: ignore[assignment]
            item = db.scalars(select(WorkItem).where(WorkItem.queue == QUEUE_TRANSFER)).one()
            assert (item.state, item.attempts, item.deferrals) == (ItemState.PENDING, 0, 1)
        with store_scp(tmp_path, port=port) as archive:
            assert turn(context, turn_s=0.0) == 1
            done = site.json(site.people["clara"], f"{study}/sendings/{made['id']}")
            assert done["state"] == "done"
            assert len(archive.received()) == 3
            assert first.sop_instance_uid not in {str(ds.SOPInstanceUID) for ds in archive.received()}
    finally:
        context.close()


def test_what_an_archive_refuses_is_said_object_by_object(site: World, tmp_path: Path) -> None:
    study = analysed(site)
    with store_scp(tmp_path, "--refuse") as archive:
        rejected = sent(site, study, enter(site, "refusing", archive.address))
        assert (rejected["state"], rejected["code"]) == ("failed", "association_rejected")
        assert "NEUROSIGHT" in rejected["reason"]
    configuration = tmp_path / "only-pictures.cfg"
    configuration.write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianExplicit\n"
        "[[PresentationContexts]]\n[Pictures]\n"
        "PresentationContext1 = SecondaryCaptureImageStorage\\Plain\n"
        "[[Profiles]]\n[Only]\nPresentationContexts = Pictures\n"
    )
    with store_scp(tmp_path / "two", "--config-file", str(configuration), "Only") as archive:
        peer = enter(site, "pictures only", archive.address)
        partly = sent(site, study, peer)
        assert (partly["state"], partly["code"]) == ("failed", "objects_refused")
        assert {(item["kind"], item["state"], item["status"]) for item in partly["objects"]} == {
            ("capture", "stored", "0x0000"),
            ("report", "refused", "0x0122"),
        }
        page = site.ask(site.people["clara"], "GET", study.replace("/api/v1", "") + "/sendings").text
        assert "refused 1 of 3 objects" in page
        again = site.ask(site.people["clara"], "POST", f"{study}/sendings/{partly['id']}/again")
        assert again.status_code == 202
        assert [item["state"] for item in (again.json or {})["objects"]] == ["stored", "stored", "waiting"]
        stopped = site.ask(site.people["clara"], "POST", f"{study}/sendings/{partly['id']}/stop")
        assert ((stopped.json or {})["state"], (stopped.json or {})["code"]) == ("failed", "sending_cancelled")
        site.work()
        assert len(archive.received()) == 2


def test_results_go_by_themselves_only_where_an_admin_said_so(site: World, tmp_path: Path) -> None:
    with store_scp(tmp_path) as archive:
        peer = enter(site, "by itself", archive.address)
        enter(site, "on request", archive.address)
        site.ask(site.people["ada"], "POST", f"/admin/peers/{peer}/automatic", data={"automatic": "1"})
        study = analysed(site)
        site.work()
        rows = site.json(site.people["clara"], f"{study}/sendings")["sendings"]
        assert [(row["peer_name"], row["state"], row["content"]) for row in rows] == [("by itself", "done", "both")]
        assert len(archive.received()) == 3
        site.ask(site.people["ada"], "POST", f"/admin/peers/{peer}/remove")
        kept = site.json(site.people["clara"], f"{study}/sendings")["sendings"]
        assert [(row["peer_name"], row["peer_id"]) for row in kept] == [("by itself", None)]
    assert site.audited("peer.automatic") == site.audited("peer.remove") == 1
