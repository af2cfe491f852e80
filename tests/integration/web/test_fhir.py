"""The FHIR R4 bundle of a study: whole by the standard's rules, without identity for those who may not see it."""

from typing import Any

from jsonschema import Draft202012Validator

from tests.fhir_r4 import BUNDLE
from tests.integration.web.test_dicom_export import slices_of_a_patient
from tests.web_world import World
from tests.work_rig import pictures


def bundle_of(site: World, files: dict[str, bytes], who: str = "clara") -> dict[str, Any]:
    """A new study's bundle, checked."""
    study = site.finished(site.people["ann"], files)["studies"][0]["id"]
    answer = site.ask(site.people[who], "GET", f"/api/v1/studies/{study}/fhir.json")
    assert (answer.status_code, answer.content_type) == (200, "application/fhir+json"), answer.text
    assert site.audited("study.export", "ok", study) == 1
    document: dict[str, Any] = answer.get_json(force=True)
    assert answer.data == site.ask(site.people[who], "GET", f"/api/v1/studies/{study}/fhir.json").data
    check(document)
    return document


def check(document: dict[str, Any]) -> None:
    """The schema, and that every reference leads to an entry (bundle.html, bdl-7: each fullUrl once)."""
    errors = [
        f"{list(error.path)}: {error.message[:200]}" for error in Draft202012Validator(BUNDLE).iter_errors(document)
    ]
    assert errors == []
    addresses = [entry["fullUrl"] for entry in document["entry"]]
    assert len(addresses) == len(set(addresses))
    assert references(document) <= set(addresses)


def references(part: Any) -> set[str]:
    """Every reference below."""
    if isinstance(part, dict):
        found = {part["reference"]} if "reference" in part else set()
        return found.union(*(references(value) for value in part.values()))
    return set().union(*(references(item) for item in part)) if isinstance(part, list) else set()


def of_kind(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The resources of one type."""
    return [entry["resource"] for entry in document["entry"] if entry["resource"]["resourceType"] == kind]


def test_a_bundle_says_what_the_results_say(site: World) -> None:
    document = bundle_of(site, slices_of_a_patient(2))
    (patient,), (device,) = of_kind(document, "Patient"), of_kind(document, "Device")
    (imaging,), (report,) = of_kind(document, "ImagingStudy"), of_kind(document, "DiagnosticReport")
    observations = of_kind(document, "Observation")
    assert patient["name"] == [{"text": "Jané Doe", "family": "Doe", "given": ["Jané"]}]
    assert (patient["gender"], patient["birthDate"]) == ("female", "1970-01-01")
    assert [item["value"] for item in imaging["identifier"]] == ["urn:oid:2.25.1", "ACC-9"]
    assert imaging["started"] == report["effectiveDateTime"] == "2026-01-02"
    (series,) = imaging["series"]
    assert (series["uid"], series["modality"]["code"]) == ("2.25.2", "MR")
    assert {item["uid"] for item in series["instance"]} == {"2.25.301", "2.25.302"}
    assert device["identifier"][0]["value"].startswith("sha256:")
    assert len(observations) == len(report["result"]) == 2
    study = report["imagingStudy"][0]["reference"]
    for observation in observations:
        assert observation["derivedFrom"] == [{"reference": study}]
        values = {item["code"]["coding"][0]["code"]: item for item in observation["component"]}
        assert set(values) == {"probability", "review_status", "sop_instance_uid"}
        assert values["review_status"]["valueCodeableConcept"]["coding"][0]["code"] == "not_reviewed"
    assert report["conclusion"].startswith("AI - NOT REVIEWED - RESEARCH USE ONLY.")


def test_pictures_without_a_study_are_in_no_series(site: World) -> None:
    document = bundle_of(site, pictures(2), "ann")
    (imaging,), (patient,) = of_kind(document, "ImagingStudy"), of_kind(document, "Patient")
    assert "series" not in imaging
    assert "identifier" not in imaging
    assert set(patient) == {"resourceType", "id", "meta"}


def test_identity_stands_in_it_by_role_only(site: World) -> None:
    """Bob sends one of ann's slices again: he sees its result, and not whose study it is."""
    from db.states import Role

    bob = site.add("bob", Role.SUBMITTER)
    files = slices_of_a_patient(2)
    site.finished(site.people["ann"], files)
    study = site.finished(bob, {"1.dcm": files["1.dcm"]})["studies"][0]["id"]
    answer = site.ask(bob, "GET", f"/api/v1/studies/{study}/fhir.json")
    assert answer.status_code == 200
    document = answer.get_json(force=True)
    check(document)
    (patient,) = of_kind(document, "Patient")
    assert set(patient) == {"resourceType", "id", "meta"}
    assert len(of_kind(document, "Observation")) == 1
    for word in ("Doe", "P-17", "ACC-9", "19700101", "1970-01-01"):
        assert word not in answer.text
