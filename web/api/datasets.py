"""API: data sets, registered from a folder of the server, an upload, or the store's reviewed slices."""

import uuid
from collections.abc import Iterator
from typing import Any

from flask import Response, url_for
from sqlalchemy.orm import Session

from config.dataset_problems import english
from db.datasets import TrainingDataset
from db.queries import datasets as rows
from db.queries.results import csv_line
from db.queries.reviews import Filter
from db.states import DatasetState, Role
from web import registering
from web.access import requires
from web.api import dataset_schemas as schemas
from web.api.jobs import CSV_DOC, csv_response
from web.api.routing import ApiBlueprint
from web.objects import note
from web.services import services

blueprint = ApiBlueprint("datasets", __name__, description="Data sets for training")

LOCATION = {"Location": {"description": "Address of the data set", "schema": {"type": "string"}}}
SAMPLE_COLUMNS = (
    "sequence",
    "file",
    "label",
    "patient",
    "plane",
    "source",
    "group",
    "sha256",
    "box_x",
    "box_y",
    "box_w",
    "box_h",
)


@blueprint.at("GET", "/datasets")
@blueprint.gives(200, schemas.DatasetList)
@requires(Role.CLINICIAN)
def datasets() -> dict[str, Any]:
    """All data sets, the newest first."""
    with services().database.read() as db:
        return {"datasets": [_document(db, row.dataset, row.creator) for row in rows.listed(db)]}


@blueprint.at("POST", "/datasets", problems=(400, 404, 409, 422))
@blueprint.takes(schemas.NewDataset)
@blueprint.gives(202, schemas.DatasetDocument, headers=LOCATION, description="Asked for; a worker reads it")
@requires(Role.ADMIN, header_csrf=True)
def register(wanted: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Registers a data set. Ask its address until its state is `ready`, or `refused` with every problem."""
    name, as_they_are = wanted["name"], wanted["labels_as_they_are"]
    if wanted["reviewed"] is not None:
        found = wanted["reviewed"]
        dataset_id = registering.from_reviews(name, Filter(found["since"], found["until"], tuple(found["classes"])))
    elif wanted["upload_id"] is not None:
        dataset_id = registering.from_upload(name, wanted["upload_id"], labels_as_they_are=as_they_are)
    else:
        dataset_id = registering.from_folder(name, wanted["folder"], labels_as_they_are=as_they_are)
    return _accepted(dataset_id)


@blueprint.at("GET", "/datasets/<uuid:dataset_id>", problems=(404,))
@blueprint.gives(200, schemas.DatasetDocument)
@requires(Role.CLINICIAN)
def dataset(dataset_id: uuid.UUID) -> dict[str, Any]:
    """A data set: state, counts, fingerprint, copies, problems."""
    return _load(dataset_id)


@blueprint.at("POST", "/datasets/<uuid:dataset_id>/again", problems=(404, 409, 422))
@blueprint.takes(schemas.Again)
@blueprint.gives(202, schemas.DatasetDocument, headers=LOCATION, description="A worker reads it once more")
@requires(Role.ADMIN, header_csrf=True)
def again(wanted: dict[str, Any], dataset_id: uuid.UUID) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Has a refused data set of a folder read once more, after the folder was mended."""
    return _accepted(registering.again(dataset_id, labels_as_they_are=wanted["labels_as_they_are"]))


@blueprint.at("DELETE", "/datasets/<uuid:dataset_id>", problems=(404, 409))
@blueprint.gives(204)
@requires(Role.ADMIN, header_csrf=True)
def delete(dataset_id: uuid.UUID) -> None:
    """Deletes a data set that no sweep and no comparison names."""
    registering.delete(dataset_id)


@blueprint.at("GET", "/datasets/<uuid:dataset_id>/samples.csv", problems=(404,))
@blueprint.gives(200, **CSV_DOC)
@requires(Role.CLINICIAN)
def samples_csv(dataset_id: uuid.UUID) -> Response:
    """Every sample as CSV. Samples of one group are of one patient, or are copies of one another."""
    with services().database.read() as db:
        name = registering.find(db, dataset_id).name
    note("dataset", "dataset.export", dataset_id)
    with services().database.read() as db:
        found = rows.samples_of(db, dataset_id)

    def lines() -> Iterator[str]:
        yield csv_line(SAMPLE_COLUMNS)
        for sample in found:
            box = sample.box or ("", "", "", "")
            facts = (sample.sequence, sample.file, sample.label, sample.patient, sample.plane, sample.source)
            yield csv_line([*facts, sample.group_number, sample.sha256, *box])

    ascii_name = "".join(character if character.isascii() and character.isalnum() else "-" for character in name)
    return csv_response(lines(), f"samples-{ascii_name[:60]}.csv")


def _accepted(dataset_id: uuid.UUID) -> tuple[dict[str, Any], int, dict[str, str]]:
    return _load(dataset_id), 202, {"Location": url_for("datasets.dataset", dataset_id=dataset_id)}


def _load(dataset_id: uuid.UUID) -> dict[str, Any]:
    with services().database.read() as db:
        found = registering.find(db, dataset_id)
        return _document(db, found, rows.creator(db, found))


def _document(db: Session, found: TrainingDataset, creator: str) -> dict[str, Any]:
    reading = found.state == DatasetState.REGISTERING
    waiting = rows.waiting(db, found) if reading else None
    ready = found.state == DatasetState.READY
    links = {"self": url_for("datasets.dataset", dataset_id=found.id)}
    if ready:
        links["samples_csv"] = url_for("datasets.samples_csv", dataset_id=found.id)
    return {
        "id": found.id,
        "name": found.name,
        "kind": found.kind,
        "state": DatasetState(found.state),
        "fingerprint": found.fingerprint,
        "counts": found.counts if ready else {},
        "leaks": found.leaks,
        "problems": [{"code": entry["code"], "sentence": english(entry)} for entry in found.problems],
        "waiting_for": waiting.code if waiting else "",
        "progress": min(1.0, waiting.done / waiting.total) if waiting and waiting.total else None,
        "created_at": found.created_at,
        "created_by": creator,
        "links": links,
    }
