"""The list of studies, and the study page: summary, filmstrip, and the stage with the heatmap.

Owns these pages and the fragments that keep them live while slices finish. Every look at a study is in the audit trail
before anything is shown.
"""

import uuid
from dataclasses import replace
from typing import Any, Final

from flask import abort, render_template, request
from flask_babel import gettext

from db.queries import views
from db.queries.strips import PAGE_SLICES, Show, Window
from db.queries.summaries import THRESHOLD
from db.queries.views import Page, SliceView, StudyView
from db.states import Role
from imaging.heatmaps import COLOUR_MAPS, DEFAULT_COLOUR_MAP, DEFAULT_OPACITY
from web import blinding, choosing, reviewing
from web.access import requires, the_user
from web.deciding import choices, decided
from web.objects import VIEW_WINDOW_S, find_study, note_identities, note_view
from web.pages.blueprint import pages
from web.pages.languages import CLASS_NAMES, class_label
from web.services import services

SHOWN: Final[dict[str, Show]] = {"all": "all", "tumour": "tumour", "abstained": "abstained", "failed": "failed"}


@pages.get("/studies")
@requires(Role.SUBMITTER)
def studies() -> str:
    """The list of studies."""
    try:
        number = int(request.args.get("page", "1"))
    except ValueError:
        abort(404)
    with services().database.read() as db:
        page = views.studies_page(db, the_user().viewer, text=request.args.get("text", "").strip()[:100], number=number)
        page = replace(page, rows=blinding.cover_rows(db, page.rows))
    note_identities(page.rows)
    return render_template("studies/list.html", page=page)


@pages.get("/studies/<uuid:study_id>")
@requires(Role.SUBMITTER)
def study(study_id: uuid.UUID) -> str:
    """A study; only its summary and filmstrip when htmx asks."""
    fragment = bool(request.headers.get("HX-Request"))
    context = study_context(study_id, _window(), once_in_s=VIEW_WINDOW_S if fragment else 0)
    if fragment:
        return render_template("studies/_live.html", **context)
    view: StudyView = context["view"]
    chosen = chosen_slice(view, request.args.get("slice", ""))
    patient_id = view.identity.patient_id if view.identity else ""
    some_left = view.summary.left_out or any(row.untrained_left for row in view.rows)
    with services().database.read() as db:
        context["left_out"] = choosing.left_out(db, study_id, view.checkpoint) if some_left else {}
        others = [] if context["blind"] else views.other_studies(db, the_user().viewer, study_id, patient_id)
    return render_template("studies/study.html", chosen=chosen, others=others, **context, **decided(view, chosen))


@pages.get("/studies/<uuid:study_id>/slices/<uuid:slice_id>")
@requires(Role.SUBMITTER)
def slice_panel(study_id: uuid.UUID, slice_id: uuid.UUID) -> str:
    """What is known of one slice, as a fragment for the stage."""
    context = study_context(study_id, only(slice_id), once_in_s=VIEW_WINDOW_S)
    chosen = chosen_slice(context["view"], str(slice_id))
    if chosen is None:
        abort(404)
    return render_template("studies/_slice.html", chosen=chosen, **context, **decided(context["view"], chosen))


def only(slice_id: uuid.UUID) -> Window:
    """Nothing but one slice of a study."""
    return Window(holding=slice_id, alone=True)


def slice_name(instance: Any) -> str:
    """A short name of a slice for people: its number in the series, else its file's name."""
    if instance.instance_number is not None:
        name = str(instance.instance_number)
    else:
        name = str(instance.path).replace("\\", "/").rpartition("/")[2]
    return (
        gettext("%(name)s, frame %(frame)s", name=name, frame=instance.frame_index + 1)
        if instance.frame_index
        else name
    )


def study_context(study_id: uuid.UUID, window: Window, *, once_in_s: float) -> dict[str, Any]:
    """What templates of a study need.

    Args:
        study_id: The study; the look is written down.
        window: Which slices.
        once_in_s: Not written down again within this time, seconds.
    """
    with services().database.read() as db:
        found = find_study(db, study_id)
    note_view("study.view", study_id, once_in_s=once_in_s)
    with services().database.read() as db:
        blind = bool(blinding.covered_studies(db, [study_id]))
        if blind:
            window = blinding.cover_window(window)
        view = views.study_view(db, the_user().viewer, found, request.args.get("checkpoint", ""), window)
    if blind:
        view = blinding.cover(view)
    reviewed = the_user().may(Role.CLINICIAN) and not window.alone  # a slice's panel shows nothing of it
    # In addresses only when it is not the one that is shown anyway.
    other = view.checkpoint is not None and view.checkpoint is not view.checkpoints[0].checkpoint
    wanted = view.checkpoint.digest if view.checkpoint and other else None
    received = sum(row.slices for row in view.rows)
    return {
        "view": view,
        "checkpoint_wanted": wanted,
        "show": window.show,
        "by_pages": received > PAGE_SLICES,
        "page": _page(view, window, wanted),
        "study": view.study,
        "summary": view.summary,
        "threshold": THRESHOLD,
        "colour_maps": list(COLOUR_MAPS),
        "colour_map": DEFAULT_COLOUR_MAP,
        "opacity": round(100 * DEFAULT_OPACITY),
        "slice_name": slice_name,
        "blind": blind,
        "standing": reviewing.fresh_standing(study_id) if reviewed else None,
        "study_history": reviewing.history(study_id) if reviewed and not blind else [],
        "offered": choices(view),
        "reader": reviewing.reader_of(study_id) if reviewed else "",
        "class_words": {name: class_label(name) for name in CLASS_NAMES},
    }


def chosen_slice(view: StudyView, wanted: str) -> SliceView | None:
    """Of the slices at hand the one that was asked for, else the most suspicious one, else the first; None without."""
    at_hand = {str(item.instance.id): item for item in view.slices}
    return at_hand.get(wanted) or at_hand.get(str(view.leading)) or next(iter(at_hand.values()), None)


def _window() -> Window:
    """Which slices the request asks for; a number that is none is not found."""
    show = request.args.get("show", "all")
    try:
        number = int(request.args["page"]) if "page" in request.args else None
        holding = uuid.UUID(request.args["slice"]) if request.args.get("slice") else None
    except ValueError:
        abort(404)
    return Window(holding, number, SHOWN.get(show, "all"))


def _page(view: StudyView, window: Window, wanted: str | None) -> Page[SliceView]:
    """The page of the filmstrip, with what the addresses of the others need."""
    found = view.strip
    query = {"study_id": view.study.id, "checkpoint": wanted, "show": None if window.show == "all" else window.show}
    if found is None:
        return Page([], 1, 1, 0, query)
    return Page([], found.number, found.pages, found.total, query)
