"""Model files in and out: an artefact as one download, and files that are to become checkpoints.

Owns the way of an upload (streamed to the blob store, then one row and one work item) and of a download (read whole and
verified before the first byte goes out). Refuses to look into a file: the registry worker does, and says what is wrong.
"""

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Response
from sqlalchemy.orm import Session

from db.artefacts import PIECE_BYTES, local_artefact
from db.checkpoints import Checkpoint
from db.queries import audit, imports
from db.queries.refusals import RegistryRefused
from imaging.preprocess import Preprocessing, PreprocessingError
from web import registry
from web.access import actor, the_user
from web.reception import Received
from web.services import services

CONTENT_TYPE = "application/vnd.neurosight.model"
_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_CLASS = re.compile(r"[a-z0-9][a-z0-9_]{0,62}\Z")
FIELDS = ("name", "network", "units", "activation", "class_names", "origin", "size", "median", "flatten")
"""What is stated about weights from elsewhere, beside the file."""


def file_name(checkpoint: Checkpoint) -> str:
    """Under which name an artefact is sent out."""
    return f"{_NAME.sub('-', checkpoint.name).strip('-.') or 'model'}-{checkpoint.digest[:12]}.neurosight"


def download(checkpoint_id: uuid.UUID) -> Response:
    """The artefact of a checkpoint; its digest stands in the headers too.

    Raises:
        RegistryRefused: The file is missing or altered.
        Problem: 404.
    """
    parts = services()
    with parts.database.read() as db:
        found = registry.find_checkpoint(db, checkpoint_id)
    size = registry.verify(found)
    with parts.database.write() as db:
        _audit(db, "checkpoint.download", checkpoint_id, {"digest": found.digest})

    def pieces() -> Iterator[bytes]:
        with (
            local_artefact(found.location, parts.settings.models_dir, parts.blobs) as path,
            path.open("rb") as file,
        ):
            while piece := file.read(PIECE_BYTES):
                yield piece

    response = Response(pieces(), content_type=CONTENT_TYPE)
    response.headers["Content-Length"] = str(size)
    response.headers["Content-Disposition"] = f'attachment; filename="{file_name(found)}"'
    response.headers["ETag"] = f'"{found.digest}"'
    response.headers["Cache-Control"] = "private, no-store"
    return response


def take_in(received: Received, kind: str, stated: Mapping[str, str]) -> uuid.UUID:
    """Asks that one received file become a checkpoint; committed and rung for.

    Args:
        received: Exactly one file.
        kind: `artefact` or `weights`.
        stated: Of weights: the values of `FIELDS`, as text.

    Returns:
        The import's id.

    Raises:
        RegistryRefused: `one_file`, `too_large`, `kind_unknown` or `stated_wrongly`.
    """
    parts = services()
    settings = parts.settings
    if kind not in (imports.ARTEFACT, imports.WEIGHTS):
        raise RegistryRefused("kind_unknown", "Choose what the file is: artefact or weights.", status=422)
    if len(received.files) != 1 or not received.files[0].size_bytes:
        raise RegistryRefused("one_file", "Choose exactly one file that is not empty.", status=422)
    (spooled,) = received.files
    if spooled.size_bytes > settings.max_model_bytes:
        raise RegistryRefused(
            "too_large",
            "The file has %(received_bytes)s bytes; a model may have %(limit_bytes)s.",
            {"received_bytes": spooled.size_bytes, "limit_bytes": settings.max_model_bytes},
            status=413,
        )
    parameters = _parameters(stated) if kind == imports.WEIGHTS else {}
    (sent,) = received.store(parts.blobs)
    with parts.database.write() as db:
        row, item = imports.request_import(
            db,
            kind=kind,
            file_name=sent.path.rpartition("/")[2],
            sha256=sent.sha256,
            parameters=parameters,
            by=the_user().id,
            max_attempts=settings.max_attempts,
        )
        _audit(db, "checkpoint.import", row.id, {"kind": kind, "sha256": sent.sha256})
    registry.ring([item.id])
    return row.id


def export_run(run_id: uuid.UUID) -> None:
    """Asks for an artefact of a finished run; committed and rung for."""
    parts = services()
    with parts.database.write() as db:
        item = imports.request_export(db, run_id, max_attempts=parts.settings.max_attempts)
        audit.record(db, actor(), "run.export", object_kind="run", object_id=run_id)
    registry.ring([item.id])


def _parameters(stated: Mapping[str, str]) -> dict[str, Any]:
    """What the user stated, checked as far as it can be without the networks."""
    text = {name: str(stated.get(name) or "").strip() for name in FIELDS}
    wrong = []
    classes = [name.strip() for name in text["class_names"].split(",") if name.strip()]
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,62}", text["network"]):
        wrong.append("network")
    if len(set(classes)) != len(classes) or len(classes) < 2 or not all(_CLASS.match(name) for name in classes):
        wrong.append("class_names")
    if text["activation"] not in ("softmax", "sigmoid"):
        wrong.append("activation")
    if not text["units"].isdecimal() or not 1 <= int(text["units"][:9]) <= 65_536:
        wrong.append("units")
    preprocessing: dict[str, Any] = {}
    try:
        preprocessing = Preprocessing(
            size=int(text["size"]),
            median=float(text["median"] or Preprocessing.median),
            flatten=text["flatten"] not in ("0", "no", "false"),
        ).to_json()
    except (ValueError, PreprocessingError):
        wrong.append("preprocessing")
    if wrong:
        raise RegistryRefused(
            "stated_wrongly",
            "These statements are missing or cannot be used: %(fields)s. Expected the name of a network of ours, two "
            "or more different class names in the order of the file's scores, softmax or sigmoid, the units of the "
            "dense layer (1 to 65536), and the input size in pixels (16 to 4096).",
            {"fields": ", ".join(wrong)},
            status=422,
        )
    return {
        "name": text["name"][:128],
        "network": text["network"],
        "units": int(text["units"]),
        "activation": text["activation"],
        "class_names": classes,
        "preprocessing": preprocessing,
        "origin": text["origin"][:300],
    }


def _audit(db: Session, action: str, object_id: object, detail: Mapping[str, object]) -> None:
    audit.record(db, actor(), action, object_kind="checkpoint", object_id=object_id, detail=detail)
