"""Agreement of clinicians and models, for administrators: page and CSV.

Owns these two. They hold counts and no study; the CSV is an export, and in the audit trail.
"""

from flask import Response, render_template, request
from flask_babel import lazy_gettext

from db.queries import agreement, audit
from db.queries.agreement import CSV_COLUMNS, Reading
from db.queries.results import csv_line
from db.states import Role
from web.access import actor, requires
from web.pages.blueprint import pages
from web.services import services

READINGS = {
    Reading.SLICES: lazy_gettext("Decisions about slices"),
    Reading.STUDIES: lazy_gettext("Sign-offs of studies"),
    Reading.OPINIONS: lazy_gettext("Opinions before the answer was shown"),
}


@pages.get("/admin/agreement", endpoint="agreement")
@requires(Role.ADMIN)
def show() -> str:
    """Kappa, confusion matrix and months of each model."""
    wanted = request.args.get("reading", "")
    reading = Reading(wanted) if wanted in set(Reading) else Reading.SLICES
    with services().database.read() as db:
        models = agreement.by_model(db, reading)
    return render_template("admin/agreement.html", models=models, readings=READINGS, reading=reading)


@pages.get("/admin/agreement.csv")
@requires(Role.ADMIN)
def agreement_csv() -> Response:
    """Every count of every reading."""
    with services().database.write() as db:
        audit.record(db, actor(), "agreement.export", object_kind="agreement")
    with services().database.read() as db:
        rows = agreement.csv_rows(db)
    lines = [csv_line(CSV_COLUMNS), *(csv_line([row[name] for name in CSV_COLUMNS]) for row in rows)]
    response = Response(lines, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = 'attachment; filename="agreement.csv"'
    return response
