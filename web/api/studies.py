"""API: studies and their results."""

import uuid
from typing import Any

from flask import Response

from db.queries import results, views
from db.queries.strips import Window
from db.queries.summaries import THRESHOLD, Summary
from db.queries.views import StudyView
from db.states import Role
from web import blinding, choosing, dicom_export, erasing
from web.access import requires, the_user
from web.api import documents, schemas
from web.api.jobs import CSV_DOC, csv_response, studies_csv
from web.api.routing import ApiBlueprint
from web.objects import find_study, note_view
from web.services import services

blueprint = ApiBlueprint("studies", __name__, description="Studies and their results")

RULE = (
    f"A slice counts as a finding of its class from a probability of {THRESHOLD:g} on. One slice with a tumour class "
    "is enough for `tumour`; tumour classes below it give `uncertain`; a study of which slices are missing is never "
    "`no_tumour`."
)


@blueprint.at("GET", "/studies/<uuid:study_id>", problems=(404, 422))
@blueprint.takes(schemas.StudyQuery, location="query")
@blueprint.gives(200, schemas.Study)
@requires(Role.SUBMITTER)
def study(wanted: dict[str, Any], study_id: uuid.UUID) -> dict[str, Any]:
    """A study: identity by role, series, summary, the model behind it."""
    view = _view(study_id, wanted["checkpoint"], Window(alone=True))
    return {
        "id": view.study.id,
        "title": view.study.title,
        "study_instance_uid": view.study.study_instance_uid or "",
        "study_date": view.study.study_date,
        "description": view.study.description,
        "deidentified": view.study.deidentified,
        "identity": view.identity,
        "series": [
            {
                "id": item.series.id,
                "number": item.series.number,
                "description": item.series.description,
                "modality": item.series.modality,
                "plane": item.series.plane,
                "untrained": item.untrained,
                "sequence": item.series.facts.get("sequence"),
                "pixel_spacing_mm": item.series.facts.get("pixel_spacing_mm"),
                "slice_spacing_mm": item.series.facts.get("slice_spacing_mm"),
                "series_instance_uid": item.series.series_instance_uid or "",
                "slices": item.slices,
                "analysed": item.analysed,
                "chosen": item.series.chosen,
                "chosen_by": item.series.chosen_by,
            }
            for item in view.rows
        ],
        "summary": summary_document(view.summary),
        "model": documents.model_document(view),
        "models": documents.model_choices(view),
        "jobs": [job.id for job in view.jobs],
        "links": documents.study_links(view.study.id),
    }


@blueprint.at("GET", "/studies/<uuid:study_id>/results", problems=(404, 422))
@blueprint.takes(schemas.StudyQuery, location="query")
@blueprint.gives(200, schemas.StudyResults)
@requires(Role.SUBMITTER)
def study_results(wanted: dict[str, Any], study_id: uuid.UUID) -> dict[str, Any]:
    """Every slice in anatomical order with its prediction, or with the reason why there is none."""
    view = _view(study_id, wanted["checkpoint"])
    return {
        "study_id": view.study.id,
        "study_instance_uid": view.study.study_instance_uid or "",
        "accession_number": view.identity.accession_number if view.identity else "",
        "summary": summary_document(view.summary),
        "model": documents.model_document(view),
        "slices": [documents.slice_document(row, view.withdrawal) for row in results.slice_rows(view)],
    }


@blueprint.at("GET", "/studies/<uuid:study_id>/results.csv", problems=(404, 422))
@blueprint.takes(schemas.StudyQuery, location="query")
@blueprint.gives(200, **CSV_DOC)
@requires(Role.SUBMITTER)
def results_csv(wanted: dict[str, Any], study_id: uuid.UUID) -> Response:
    """The results as CSV, one row a slice."""
    with services().database.read() as db:
        find_study(db, study_id)
    return csv_response(studies_csv([study_id], wanted["checkpoint"]), f"results-{study_id}.csv")


@blueprint.at("GET", "/studies/<uuid:study_id>/dicom.zip", problems=(404, 409, 422))
@blueprint.takes(schemas.StudyQuery, location="query")
@blueprint.gives(200, content_type="application/zip")
@requires(Role.CLINICIAN)
def dicom_zip(wanted: dict[str, Any], study_id: uuid.UUID) -> Response:
    """The results as DICOM in a zip: a Structured Report (TID 1500) and Secondary Captures of the heatmaps.

    They belong to the study as received, in new series, and say in every object that nobody has reviewed them. The
    captures are those of the slices with the highest probability of a tumour, at most a hundred.
    """
    return dicom_export.download(study_id, wanted["checkpoint"])


@blueprint.at("DELETE", "/studies/<uuid:study_id>", problems=(404, 409, 422))
@blueprint.takes(schemas.StudyDeletion, location="query")
@blueprint.gives(200, schemas.StudyDeleted)
@requires(Role.ADMIN, header_csrf=True)
def delete_study(wanted: dict[str, Any], study_id: uuid.UUID) -> dict[str, Any]:
    """Deletes a study for good: identity, files, results of every model, heatmaps, decisions. Nothing brings it back.

    Submissions of which no study is left go with their receipts. Pictures in data sets stay, without any link to the
    study. The stored bytes are removed some minutes later.
    """
    return {"id": study_id, **erasing.erase_study(study_id, wanted["reason"]).to_json()}


@blueprint.at("POST", "/studies/<uuid:study_id>/series", problems=(404, 409, 422))
@blueprint.takes(schemas.SeriesChoice)
@blueprint.gives(202, schemas.ChoiceChanged)
@requires(Role.CLINICIAN, header_csrf=True)
def choose_series(wanted: dict[str, Any], study_id: uuid.UUID) -> dict[str, Any]:
    """Chooses which series of a study are classified; what is missing of the newly chosen ones is started.

    Results that are there are kept, also of series that are not chosen any more, and none is made twice.
    """
    return vars(choosing.choose_series(study_id, wanted["chosen"], None, wanted["checkpoint"]))


@blueprint.at("POST", "/studies/<uuid:study_id>/classify", problems=(404, 409, 422))
@blueprint.takes(schemas.LeftOutRequest)
@blueprint.gives(202, schemas.ChoiceChanged)
@requires(Role.SUBMITTER, header_csrf=True)
def classify_left_out(wanted: dict[str, Any], study_id: uuid.UUID) -> dict[str, Any]:
    """Classifies the slices of chosen series that were left out for their plane; their results say so."""
    return vars(choosing.classify_left_out(study_id, wanted["checkpoint"]))


@blueprint.at("GET", "/studies/<uuid:study_id>/fhir.json", problems=(404, 409, 422))
@blueprint.takes(schemas.StudyQuery, location="query")
@blueprint.gives(200, content_type="application/fhir+json")
@requires(Role.SUBMITTER)
def fhir_bundle(wanted: dict[str, Any], study_id: uuid.UUID) -> Response:
    """The results as a FHIR R4 bundle: Patient, Device, ImagingStudy, an Observation a slice, a DiagnosticReport.

    Observations and report have the status `preliminary`. Identity stands in it only for those who may see it; for
    others the Patient is empty. It is a download: nothing is posted anywhere.
    """
    return dicom_export.fhir(study_id, wanted["checkpoint"])


def summary_document(summary: Summary) -> dict[str, Any]:
    """The summary with its rule."""
    return {
        "finding": str(summary.finding),
        "leading_class": summary.leading_class,
        "other_classes": list(summary.other_classes),
        "support": summary.support,
        "analysed": summary.analysed,
        "failed": summary.failed,
        "waiting": summary.waiting,
        "not_asked": summary.not_asked,
        "left_out": summary.left_out,
        "abstained": summary.abstained,
        "rule": RULE,
    }


def _view(study_id: uuid.UUID, checkpoint: str, window: Window | None = None) -> StudyView:
    with services().database.read() as db:
        find_study(db, study_id)
        blinding.refuse_covered(db, [study_id])
    note_view("study.view", study_id)
    with services().database.read() as db:
        return views.study_view(db, the_user().viewer, find_study(db, study_id), checkpoint, window)
