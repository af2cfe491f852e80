"""A study's results as a FHIR R4 bundle (hl7.org/fhir/R4): for an integration engine that somebody hands it to.

Owns one Bundle of type `collection`: Patient, Device (the model), ImagingStudy, one Observation for each slice with a
result, and one DiagnosticReport. Report and observations are `preliminary`, and every resource carries a tag that
nobody has reviewed it. Refuses to claim a code of SNOMED CT or LOINC for a class: these are labels of a network and no
diagnoses, so they stand in a code system of our own. Refuses to hold identity that the asker may not see: then the
Patient is empty. Posts nothing anywhere.

The same results give the same ids and the same bundle.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from db.queries.results import NOTICE
from db.queries.summaries import Summary
from db.queries.views import StudyView
from exchange.results import ResultObjects
from imaging.dicom_out import MANUFACTURER, MARK, ImageRef, SliceResult, derived_uid

SYSTEM: Final = f"urn:oid:{derived_uid('code system')}"
"""The code system of our own: classes, and what an observation's components are."""
DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
UCUM: Final = "http://unitsofmeasure.org"
_NAMESPACE: Final = uuid.UUID("5d0e4f5c-0d4c-4c5f-8d3c-6a9a3d1b7d20")
_GENDERS: Final = {"M": "male", "F": "female", "O": "other"}
_TAG: Final = {"tag": [{"system": SYSTEM, "code": "not_reviewed", "display": MARK}]}


def bundle(view: StudyView, found: ResultObjects) -> dict[str, Any]:
    """Makes the bundle.

    Args:
        view: The study as the asker may see it.
        found: The plan of its objects (`exchange.results.plan`): results with their images.

    Returns:
        A Bundle resource, to be written as JSON.
    """
    maker = _Maker(view, found)
    resources = [maker.patient(), maker.device(), maker.imaging_study(), *maker.observations(), maker.report()]
    newest = max(result.created_at for result in found.results)
    return {
        "resourceType": "Bundle",
        "id": _number("bundle", found, *sorted(result.key for result in found.results)),
        "meta": _TAG,
        "type": "collection",
        "timestamp": _instant(newest),
        "entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources],
    }


class _Maker:
    """Makes the resources of one study, which refer to each other by `urn:uuid`."""

    def __init__(self, view: StudyView, found: ResultObjects) -> None:
        self._view, self._found = view, found
        self._patient = _number("patient", found)
        self._device = _number("device", found)
        self._study = _number("imaging study", found)

    def patient(self) -> dict[str, Any]:
        """The patient; without any property when the asker may not see who it is (R4 patient.html: all optional)."""
        resource = _resource("Patient", self._patient)
        who = self._found.study
        if self._view.identity is None:
            return resource
        if who.patient_id:
            kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]}
            resource["identifier"] = [{"type": kind, "value": who.patient_id}]
        if who.patient_name:
            resource["name"] = [_name(who.patient_name)]
        if who.sex:
            resource["gender"] = _GENDERS[who.sex]
        if who.birth_date:
            resource["birthDate"] = _date(who.birth_date)
        return resource

    def device(self) -> dict[str, Any]:
        """The model (R4 device.html): its digest identifies it."""
        algorithm = self._found.algorithm
        versions = dict.fromkeys(result.code_version for result in self._found.results)
        return {
            **_resource("Device", self._device),
            "identifier": [{"system": f"{SYSTEM}.1", "value": f"sha256:{algorithm.digest}"}],
            "manufacturer": MANUFACTURER,
            "deviceName": [{"name": algorithm.name, "type": "model-name"}],
            "modelNumber": algorithm.network,
            "type": {"text": "Image classification software"},
            "version": [{"value": version} for version in versions],
            "note": [{"text": NOTICE}],
        }

    def imaging_study(self) -> dict[str, Any]:
        """The study (R4 imagingstudy.html); `series` lists the analysed instances that are in an archive."""
        study = self._found.study
        identifiers: list[dict[str, Any]] = []
        if not study.made_uid:
            identifiers.append({"system": "urn:dicom:uid", "value": f"urn:oid:{study.study_instance_uid}"})
        if study.accession_number:
            kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]}
            identifiers.append({"type": kind, "value": study.accession_number})
        resource = {
            **_resource("ImagingStudy", self._study),
            "status": "available",
            "subject": _reference(self._patient),
            "modality": [{"system": DCM, "code": code} for code in self._modalities()],
        }
        if identifiers:
            resource["identifier"] = identifiers
        if study.study_date:
            resource["started"] = _date(study.study_date)
        if study.description:
            resource["description"] = study.description
        series = [] if study.made_uid else self._series()
        if series:
            resource["series"] = series
        return resource

    def observations(self) -> list[dict[str, Any]]:
        """One for each slice with a result, in the order of the study's page (R4 observation.html)."""
        return [self._observation(result) for result in self._found.results]

    def report(self) -> dict[str, Any]:
        """The report (R4 diagnosticreport.html); no performer: a program is none, and nobody else has looked."""
        found = self._found
        resource = {
            **_resource("DiagnosticReport", self._report_id()),
            "status": "preliminary",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"}]}],
            "code": {"text": "Classification of brain MRI slices by a neural network"},
            "subject": _reference(self._patient),
            "issued": _instant(max(result.created_at for result in found.results)),
            "imagingStudy": [_reference(self._study)],
            "result": [_reference(self._observation_id(result)) for result in found.results],
            "conclusion": _conclusion(self._view.summary),
        }
        if found.study.study_date:
            resource["effectiveDateTime"] = _date(found.study.study_date)
        return resource

    def _observation(self, result: SliceResult) -> dict[str, Any]:
        components: list[dict[str, Any]] = [
            {
                "code": _concept("probability", "Calibrated probability of the predicted class"),
                "valueQuantity": {"value": round(result.probability, 6), "system": UCUM, "code": "1"},
            },
            {
                "code": _concept("review_status", "Review status"),
                "valueCodeableConcept": _concept("not_reviewed", MARK),
            },
        ]
        if result.image is not None and not self._found.study.made_uid:
            uid = result.image.sop_instance_uid
            components.append(
                {"code": _concept("sop_instance_uid", "SOP Instance UID"), "valueString": f"urn:oid:{uid}"}
            )
            if result.image.frame is not None:
                components.append({"code": _concept("frame", "Frame number"), "valueInteger": result.image.frame + 1})
        return {
            **_resource("Observation", self._observation_id(result)),
            "status": "preliminary",
            "category": [
                {
                    "coding": [
                        {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging"}
                    ]
                }
            ],
            "code": _concept("predicted_class", f"Predicted class of {result.name.lower()}"),
            "subject": _reference(self._patient),
            "issued": _instant(result.created_at),
            "valueCodeableConcept": _concept(result.class_name, result.class_name.replace("_", " ")),
            "device": _reference(self._device),
            "derivedFrom": [_reference(self._study)],
            "note": [{"text": f"{MARK}. {NOTICE}"}],
            "component": components,
        }

    def _series(self) -> list[dict[str, Any]]:
        rows = {item.series.series_instance_uid: item.series for item in self._view.series}
        images: dict[str, dict[str, ImageRef]] = {}
        for result in self._found.results:
            if result.image is not None:
                images.setdefault(result.image.series_instance_uid, {})[result.image.sop_instance_uid] = result.image
        found = []
        for uid, instances in images.items():
            row = rows.get(uid)
            entry: dict[str, Any] = {
                "uid": uid,
                "modality": {"system": DCM, "code": (row.modality if row else "") or "OT"},
                "instance": [_instance(image) for image in instances.values()],
            }
            if row is not None and row.number is not None and row.number >= 0:
                entry["number"] = row.number
            if row is not None and row.description:
                entry["description"] = row.description
            found.append(entry)
        return found

    def _modalities(self) -> Sequence[str]:
        return list(dict.fromkeys(item.series.modality or "OT" for item in self._view.series))

    def _observation_id(self, result: SliceResult) -> str:
        return _number("observation", self._found, result.key)

    def _report_id(self) -> str:
        return _number("report", self._found, *sorted(result.key for result in self._found.results))


def _resource(kind: str, number: str) -> dict[str, Any]:
    return {"resourceType": kind, "id": number, "meta": _TAG}


def _reference(number: str) -> dict[str, str]:
    return {"reference": f"urn:uuid:{number}"}


def _number(kind: str, found: ResultObjects, *parts: str) -> str:
    """The same object has the same id in every bundle."""
    text = "\n".join((kind, found.study.study_instance_uid, found.algorithm.digest, *parts))
    return str(uuid.uuid5(_NAMESPACE, text))


def _concept(code: str, text: str) -> dict[str, Any]:
    return {"coding": [{"system": SYSTEM, "code": code, "display": text}], "text": text}


def _instance(image: ImageRef) -> dict[str, Any]:
    return {
        "uid": image.sop_instance_uid,
        "sopClass": {"system": "urn:ietf:rfc3986", "code": f"urn:oid:{image.sop_class_uid}"},
    }


def _name(text: str) -> dict[str, Any]:
    """A DICOM person name (PS3.5 6.2.1.1): family^given^middle^prefix^suffix, of its first representation."""
    parts = [part.strip() for part in text.split("=")[0].split("^")]
    family, given = parts[0], [part for part in parts[1:3] if part]
    name: dict[str, Any] = {"text": " ".join([*given, family]).strip()}
    if family:
        name["family"] = family
    if given:
        name["given"] = given
    return name


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}"


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


_FINDINGS: Final[Mapping[str, str]] = {
    "tumour": "Tumour pattern found",
    "uncertain": "Uncertain: needs a human look",
    "no_tumour": "No tumour pattern found",
    "incomplete": "Incomplete: not a negative result",
    "none": "No result yet",
}


def _conclusion(summary: Summary) -> str:
    classes = [name.replace("_", " ") for name in (summary.leading_class, *summary.other_classes) if name]
    finding = _FINDINGS.get(str(summary.finding), str(summary.finding))
    said = f"{finding}{': ' + ', '.join(classes) if classes else ''}"
    return f"{MARK}. {said}. {summary.analysed} of {summary.total} slices analysed. {NOTICE}"
