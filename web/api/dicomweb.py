"""DICOMweb: the Store transaction of the Studies Service (STOW-RS, PS3.18 10.5).

Owns the addresses and the form of the exchange. Refuses query and retrieve: NeuroSight is no archive.
"""

import json
from typing import Any

from flask import Response, request

from db.states import Role
from imaging.decoders import DecodersUnavailable
from imaging.dicom_uids import is_uid
from web import stow
from web.access import requires
from web.api.routing import ApiBlueprint
from web.problems import Problem
from web.reception import receive_related

PREFIX = "/dicomweb"
DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"

blueprint = ApiBlueprint("dicomweb", __name__, description="DICOMweb: storing instances (STOW-RS)")

PROBLEMS = (400, 406, 413, 415, 507)
STORED: dict[str, Any] = {"content_type": DICOM_JSON, "description": "All instances are stored (table 10.5.3-1)"}
DOC = {
    "requestBody": {
        "required": True,
        "description": "DICOM instances, one a part, of any number of studies.",
        "content": {'multipart/related; type="application/dicom"': {"schema": {"type": "string", "format": "binary"}}},
    },
    "responses": {
        "202": {
            "description": "Some are stored; FailedSOPSequence and OtherFailuresSequence name the others, with reasons",
            "content": {DICOM_JSON: {"schema": {"type": "string"}}},
        },
        "409": {
            "description": "None is stored; the document names each with its reason",
            "content": {DICOM_JSON: {"schema": {"type": "string"}}},
        },
    },
}


@blueprint.at("POST", "/studies", problems=PROBLEMS, doc=DOC)
@blueprint.gives(200, **STORED)
@requires(Role.SUBMITTER, header_csrf=True)
def store() -> Response:
    """Stores instances (STOW-RS). A study becomes a job when nothing of it came for the quiet time of the settings.

    What is stored when this answers is safe; sending it again, byte for byte, changes nothing.
    """
    return _store("")


@blueprint.at("POST", "/studies/<string:study_uid>", problems=PROBLEMS, doc=DOC)
@blueprint.gives(200, **STORED)
@requires(Role.SUBMITTER, header_csrf=True)
def store_study(study_uid: str) -> Response:
    """Stores instances of one study; those of another one fail with reason A900."""
    if not is_uid(study_uid):
        raise Problem(
            400, "malformed_uid", "The address names no StudyInstanceUID (digits and dots, at most 64 characters)."
        )
    return _store(study_uid)


def _store(study_uid: str) -> Response:
    if request.accept_mimetypes.best_match([DICOM_JSON, "application/json"]) is None and request.accept_mimetypes:
        raise Problem(
            406,
            "not_acceptable",
            "The answer is application/dicom+json; the request accepts only %(received)s.",
            facts={"received": str(request.accept_mimetypes)[:100]},
        )
    with receive_related(DICOM) as received:
        if not received.files:
            raise Problem(400, "empty_submission", "Received no part; expected at least one DICOM instance.")
        try:
            judged = stow.store(received, study_uid)
        except DecodersUnavailable as error:
            raise Problem(
                503,
                "decoders_unavailable",
                "The instances could not be looked into at the moment; nothing was kept. Send them again.",
                headers={"Retry-After": "5"},
            ) from error
    return Response(json.dumps(stow.document(judged)), stow.status(judged), content_type=DICOM_JSON)
