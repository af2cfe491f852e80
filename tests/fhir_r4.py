"""What FHIR R4 asks of the resources that we write, as a JSON Schema: cardinalities, types, required value sets.

Written by hand from the resource pages of hl7.org/fhir/R4, for the elements we use and no others;
`additionalProperties` is false, so that an element that is not described here fails. Pages: bundle.html, patient.html,
device.html, imagingstudy.html, observation.html, diagnosticreport.html, datatypes.html, references.html;
value sets bundle-type, administrative-gender, device-nametype, imagingstudy-status,
observation-status, diagnostic-report-status.
"""

from typing import Any

UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
DATE = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$"
OID = r"^[0-2](\.(0|[1-9][0-9]*))+$"
"""ImagingStudy.series.uid and .instance.uid are of type id: at most 64 characters; a DICOM UID."""


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _some(item: dict[str, Any], least: int = 1) -> dict[str, Any]:
    """A list; FHIR has no empty ones (json.html)."""
    return {"type": "array", "minItems": least, "items": item}


STRING = {"type": "string", "minLength": 1, "pattern": r"\S"}
URI = {"type": "string", "pattern": r"^\S+$"}
CODING = _object(["system", "code"], system=URI, code={"type": "string", "pattern": r"^\S+( \S+)*$"}, display=STRING)
CONCEPT = _object([], coding=_some(CODING), text=STRING)
IDENTIFIER = _object(["value"], system=URI, value=STRING, type=CONCEPT)
REFERENCE = _object(["reference"], reference={"type": "string", "pattern": r"^urn:uuid:" + UUID[1:]})
ANNOTATION = _object(["text"], text=STRING)
UID = {"type": "string", "maxLength": 64, "pattern": OID}
META = _object(["tag"], tag=_some(CODING))


def _resource(kind: str, required: list[str], **properties: Any) -> dict[str, Any]:
    base = {"resourceType": {"const": kind}, "id": {"type": "string", "pattern": UUID}, "meta": META}
    return _object(["resourceType", "id", "meta", *required], **base, **properties)


PATIENT = _resource(
    "Patient",
    [],
    identifier=_some(IDENTIFIER),
    name=_some(_object([], text=STRING, family=STRING, given=_some(STRING))),
    gender={"enum": ["male", "female", "other", "unknown"]},
    birthDate={"type": "string", "pattern": DATE},
)
DEVICE = _resource(
    "Device",
    [],
    identifier=_some(IDENTIFIER),
    manufacturer=STRING,
    deviceName=_some(
        _object(
            ["name", "type"],
            name=STRING,
            type={
                "enum": [
                    "udi-label-name",
                    "user-friendly-name",
                    "patient-reported-name",
                    "manufacturer-name",
                    "model-name",
                    "other",
                ]
            },
        )
    ),
    modelNumber=STRING,
    type=CONCEPT,
    version=_some(_object(["value"], value=STRING)),
    note=_some(ANNOTATION),
)
IMAGING_STUDY = _resource(
    "ImagingStudy",
    ["status", "subject"],
    identifier=_some(IDENTIFIER),
    status={"enum": ["registered", "available", "cancelled", "entered-in-error", "unknown"]},
    modality=_some(CODING),
    subject=REFERENCE,
    started={"type": "string", "pattern": DATE},
    description=STRING,
    series=_some(
        _object(
            ["uid", "modality"],
            uid=UID,
            number={"type": "integer", "minimum": 0},
            modality=CODING,
            description=STRING,
            instance=_some(_object(["uid", "sopClass"], uid=UID, sopClass=CODING)),
        )
    ),
)
OBSERVATION = _resource(
    "Observation",
    ["status", "code"],
    status={"const": "preliminary"},
    category=_some(CONCEPT),
    code=CONCEPT,
    subject=REFERENCE,
    issued={"type": "string", "pattern": INSTANT},
    valueCodeableConcept=CONCEPT,
    note=_some(ANNOTATION),
    device=REFERENCE,
    derivedFrom=_some(REFERENCE),
    component=_some(
        {
            **_object(
                ["code"],
                code=CONCEPT,
                valueQuantity=_object(
                    ["value", "system", "code"],
                    value={"type": "number", "minimum": 0, "maximum": 1},
                    system={"const": "http://unitsofmeasure.org"},
                    code={"const": "1"},
                ),
                valueCodeableConcept=CONCEPT,
                valueString=STRING,
                valueInteger={"type": "integer"},
            ),
            # value[x]: one of them (observation.html), with the code two members.
            "minProperties": 2,
            "maxProperties": 2,
        }
    ),
)
DIAGNOSTIC_REPORT = _resource(
    "DiagnosticReport",
    ["status", "code"],
    status={"const": "preliminary"},
    category=_some(CONCEPT),
    code=CONCEPT,
    subject=REFERENCE,
    effectiveDateTime={"type": "string", "pattern": DATE},
    issued={"type": "string", "pattern": INSTANT},
    result=_some(REFERENCE),
    imagingStudy=_some(REFERENCE),
    conclusion=STRING,
)
BUNDLE = _resource(
    "Bundle",
    ["type", "entry"],
    # bdl-1 and bdl-2: no total and no search; bdl-3 and bdl-4: no request and no response in a collection.
    type={"const": "collection"},
    timestamp={"type": "string", "pattern": INSTANT},
    entry=_some(
        _object(
            ["fullUrl", "resource"],
            fullUrl={"type": "string", "pattern": r"^urn:uuid:" + UUID[1:]},
            resource={"oneOf": [PATIENT, DEVICE, IMAGING_STUDY, OBSERVATION, DIAGNOSTIC_REPORT]},
        )
    ),
)
