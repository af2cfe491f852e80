"""The worklist: which studies wait for a clinician, and the way from one to the next.

Owns the page, its filters, and taking or giving studies in one go. A list that names patients is in the audit trail.
"""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Response, abort, flash, render_template, request
from flask_babel import gettext, ngettext

from db.queries import worklist
from db.queries.summaries import Finding
from db.queries.worklist import ANYBODY, NOBODY, ORDERS, Wanted
from db.standings import ReviewState
from db.states import Role
from web import blinding, reviewing
from web.access import requires, the_user
from web.deciding import KNOWN_CLASSES
from web.objects import note_identities
from web.pages.blueprint import pages
from web.pages.redirects import go, safe_path, see
from web.problems import Problem
from web.services import services

STATES = ("waiting", *ReviewState, "all")
MOST_AT_ONCE = 100


@pages.get("/worklist", endpoint="worklist")
@requires(Role.CLINICIAN)
def show() -> str:
    """The worklist; by age instead of by urgency for those who give their opinion first."""
    user, args = the_user(), request.args
    blind = blinding.chosen()
    wanted = Wanted(
        text=args.get("text", "").strip()[:100],
        state=_one_of("state", STATES) or "waiting",
        finding="" if blind else _one_of("finding", tuple(Finding)),
        class_name="" if blind else _one_of("class", KNOWN_CLASSES),
        checkpoint_id=_id("model"),
        assigned=_assigned(user.id),
        reviewer=_id("reviewer"),
        since=_day("since"),
        until=_day("until", after=1),
        order=_one_of("order", ORDERS) or "urgency",
    )
    if blind and wanted.order == "urgency":
        wanted = replace(wanted, order="oldest")  # the place in the list would give the answer away
    try:
        number = int(args.get("page", "1"))
    except ValueError:
        abort(404)
    with services().database.read() as db:
        page = worklist.page(db, wanted, number)
        context: dict[str, Any] = {
            "counts": worklist.counts(db, user.id),
            "readers": worklist.readers(db),
            "models": worklist.models(db),
            "hidden": blinding.covered_studies(db, [row.study.id for row in page.rows]),
        }
    note_identities(page.rows)
    names = ("text", "state", "finding", "class", "model", "assigned", "reviewer", "since", "until", "order")
    page.query.update({name: args[name] for name in names if args.get(name)})
    return render_template(
        "worklist/list.html",
        page=page,
        blind=blind,
        wanted=wanted,
        states=STATES,
        findings=list(Finding),
        classes=KNOWN_CLASSES,
        orders=ORDERS,
        **context,
    )


@pages.post("/worklist/assign")
@requires(Role.CLINICIAN)
def assign_studies() -> Response:
    """Takes the ticked studies, or gives them to somebody."""
    ids = [number for text in request.form.getlist("study")[:MOST_AT_ONCE] if (number := _uuid(text))]
    to = request.form.get("to", "")
    whom = the_user().id if to == "me" else _uuid(request.form.get("whom", "")) if to == "whom" else None
    if not ids:
        flash(gettext("Tick the studies first."), "warn")
    elif whom is None and to != NOBODY:
        raise Problem(422, "no_reader", "Studies can be assigned to clinicians with an open account only.")
    else:
        taken = reviewing.assign(ids, whom, only_free=to == "me")
        count = len(taken.studies)
        flash(ngettext("%(num)d study was assigned.", "%(num)d studies were assigned.", count), "good")
        if taken.held_by:
            who = ", ".join(taken.held_by)
            flash(gettext("Some of them are assigned to %(who)s; they stay so.", who=who), "warn")
    back = safe_path(request.form.get("next"))
    return go(back) if back else see("pages.worklist")


@pages.get("/worklist/next")
@requires(Role.CLINICIAN)
def next_study() -> Response:
    """Goes to the study to read after (or before) the one that is open."""
    with services().database.read() as db:
        found = worklist.next_study(
            db,
            the_user().id,
            _id("after"),
            backwards=request.args.get("back") == "1",
            by_age=blinding.chosen(),
        )
    if found is None:
        flash(gettext("No other study waits for you."), "good")
        return see("pages.worklist")
    return see("pages.study", study_id=found)


def _one_of(name: str, offered: tuple[str, ...]) -> str:
    wanted = request.args.get(name, "")
    return wanted if wanted in offered else ""


def _assigned(me: uuid.UUID) -> uuid.UUID | str:
    wanted = request.args.get("assigned", "")
    return me if wanted == "me" else NOBODY if wanted == NOBODY else _uuid(wanted) or ANYBODY


def _id(name: str) -> uuid.UUID | None:
    return _uuid(request.args.get(name, ""))


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _day(name: str, *, after: int = 0) -> datetime | None:
    try:
        return datetime.strptime(request.args.get(name, ""), "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=after)
    except (ValueError, OverflowError):
        return None
