"""One prediction: its receipt, the button that computes it again, and the heatmap layer that the viewer draws.

Owns the receipt page: everything needed to say where a number came from. Refuses to compute: repeating is a work item.
"""

import uuid
from typing import Any

from flask import Response, flash, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from sqlalchemy.orm import joinedload

from db.predictions import Heatmap, Prediction
from db.queries import views, withdrawals
from db.states import Role
from db.studies import Instance
from imaging.heatmaps import COLOUR_MAPS, DEFAULT_COLOUR_MAP, decode, layer_png, place
from web.access import requires
from web.api.predictions import request_reproduction
from web.objects import VIEW_WINDOW_S, find_prediction, note_view
from web.pages.blueprint import pages
from web.pages.studies import slice_name
from web.problems import Problem
from web.services import services


@pages.get("/predictions/<uuid:prediction_id>")
@requires(Role.SUBMITTER)
def prediction(prediction_id: uuid.UUID) -> str:
    """The receipt of a result; only the repeat's outcome when htmx asks."""
    with services().database.read() as db:
        found = find_prediction(db, prediction_id, joinedload(Prediction.instance), joinedload(Prediction.checkpoint))
        repeat = views.newest_reproduction(db, prediction_id)
        withdrawal = withdrawals.marks(db, [found.checkpoint_id]).get(found.checkpoint_id)
    note_view("study.view", found.instance.study_id, once_in_s=VIEW_WINDOW_S)
    context: dict[str, Any] = {
        "prediction": found,
        "repeat": repeat,
        "withdrawal": withdrawal,
        "slice_name": slice_name,
    }
    template = "predictions/_repeat.html" if request.headers.get("HX-Request") else "predictions/receipt.html"
    return render_template(template, **context)


@pages.post("/predictions/<uuid:prediction_id>/reproduce")
@requires(Role.SUBMITTER)
def reproduce(prediction_id: uuid.UUID) -> Response:
    """Asks a worker to compute a prediction again from the stored file."""
    request_reproduction(prediction_id)
    flash(gettext("The result is being computed again; this takes a few seconds."), "good")
    response = redirect(url_for("pages.prediction", prediction_id=prediction_id), 303)
    assert isinstance(response, Response)  # noqa: S101 - Flask's own class, for the type checker
    return response


@pages.get("/predictions/<uuid:prediction_id>/layer.png")
@requires(Role.SUBMITTER)
def heatmap_layer(prediction_id: uuid.UUID) -> Response:
    """The heatmap as a transparent layer over its slice: colour by the map, alpha by the heat."""
    colour_map = request.args.get("colour_map", DEFAULT_COLOUR_MAP)
    if colour_map not in COLOUR_MAPS:
        raise Problem(
            422,
            "colour_map",
            "There is no colour map of this name; choose one of %(choices)s.",
            facts={"choices": ", ".join(COLOUR_MAPS)},
        )
    with services().database.read() as db:
        found = find_prediction(db, prediction_id)
        instance = db.get_one(Instance, found.instance_id)
        heatmap = db.get(Heatmap, prediction_id)
    if heatmap is None:
        raise Problem(404, "no_heatmap", "This result has no heatmap.")
    note_view("study.view", instance.study_id, once_in_s=VIEW_WINDOW_S)
    box = (heatmap.box_x0, heatmap.box_y0, heatmap.box_x1, heatmap.box_y1)
    response = make_response(layer_png(place(decode(heatmap.png), box, (instance.rows, instance.columns)), colour_map))
    response.content_type = "image/png"
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return response
