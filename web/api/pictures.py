"""API: slices as pictures and as values, heatmaps and overlays as PNG."""

import uuid
from typing import Any

from flask import Response, request
from sqlalchemy.orm import joinedload

from db.predictions import Prediction
from db.states import Role
from db.studies import Instance
from web import pictures
from web.access import requires
from web.api import schemas
from web.api.routing import PNG, ApiBlueprint
from web.objects import VIEW_WINDOW_S, find_prediction, find_slice, note_view
from web.services import services

blueprint = ApiBlueprint("pictures", __name__, description="Slices, heatmaps and overlays as PNG")
PICTURE: dict[str, Any] = {"content_type": PNG}


@blueprint.at("GET", "/slices/<uuid:slice_id>/image.png", problems=(404, 422))
@blueprint.gives(200, **PICTURE)
@requires(Role.SUBMITTER)
def image(slice_id: uuid.UUID) -> Response:
    """The slice as it is displayed: 8-bit grey, its own size."""
    with services().database.read() as db:
        instance = find_slice(db, slice_id)
    note_view("study.view", instance.study_id, once_in_s=VIEW_WINDOW_S)
    tag = f"{instance.content_sha256}-{instance.frame_index}"
    return _png(tag, lambda: pictures.slice_png(instance))


@blueprint.at("GET", "/slices/<uuid:slice_id>/values.bin", problems=(404, 422))
@blueprint.gives(200, content_type="application/octet-stream")
@requires(Role.SUBMITTER)
def values(slice_id: uuid.UUID) -> Response:
    """The slice at the depth it was acquired with, before its window: uint16 little endian, row after row.

    A value v stands for v x `Slice-Slope` + `Slice-Intercept` in the scanner's unit. It is shown as
    clip((value - `Slice-Window-Centre`) / `Slice-Window-Width` + 0.5, 0, 1), turned round when `Slice-Inverted` is 1.
    `Slice-Rows` and `Slice-Columns` give the size. Files without scanner values (PNG, JPEG, colour) have their levels.
    """
    with services().database.read() as db:
        instance = find_slice(db, slice_id)
    note_view("study.view", instance.study_id, once_in_s=VIEW_WINDOW_S)
    tag = f"{instance.content_sha256}-{instance.frame_index}-v"
    response = _kept("application/octet-stream", tag)
    if not request.if_none_match.contains(tag):
        response.data, facts = pictures.slice_values(instance)
        response.headers.update(facts)
    response.make_conditional(request)
    return response


@blueprint.at("GET", "/predictions/<uuid:prediction_id>/heatmap.png", problems=(404, 422))
@blueprint.takes(schemas.HeatmapQuery, location="query")
@blueprint.gives(200, **PICTURE)
@requires(Role.SUBMITTER)
def heatmap(query: dict[str, Any], prediction_id: uuid.UUID) -> Response:
    """Where the model looked (not where the tumour is): a transparent layer of the slice's size."""
    prediction, found, instance = _load(prediction_id)
    tag = f"{prediction.id}-h-{query['colour_map']}"
    return _png(tag, lambda: pictures.heatmap_layer_png(instance, found, query["colour_map"]))


@blueprint.at("GET", "/predictions/<uuid:prediction_id>/overlay.png", problems=(404, 422))
@blueprint.takes(schemas.OverlayQuery, location="query")
@blueprint.gives(200, **PICTURE)
@requires(Role.SUBMITTER)
def overlay(query: dict[str, Any], prediction_id: uuid.UUID) -> Response:
    """The heatmap drawn over the slice."""
    prediction, found, instance = _load(prediction_id)
    colour_map, opacity = query["colour_map"], query["opacity"]
    tag = f"{prediction.id}-o-{colour_map}-{opacity:g}"
    return _png(tag, lambda: pictures.overlay_png(instance, found, colour_map, opacity))


def _load(prediction_id: uuid.UUID) -> tuple[Prediction, Any, Instance]:
    with services().database.read() as db:
        prediction = find_prediction(db, prediction_id, joinedload(Prediction.instance))
        found = pictures.heatmap_of(db, prediction)
        instance = prediction.instance
    note_view("study.view", instance.study_id, once_in_s=VIEW_WINDOW_S)
    return prediction, found, instance


def _png(tag: str, draw: Any) -> Response:
    response = _kept(PNG, tag)
    if not request.if_none_match.contains(tag):
        response.data = draw()
    response.make_conditional(request)
    return response


def _kept(content_type: str, tag: str) -> Response:
    """An answer that this browser alone may keep, and must ask about again: access may have been withdrawn."""
    response = Response(content_type=content_type)
    response.set_etag(tag)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Cookie, Authorization"
    return response
