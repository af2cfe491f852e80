"""The drift page: whether what arrives, and what is answered, still looks like what the model was chosen on.

Owns choosing the model and the comparison, and the words; the numbers come from `db.queries.drift`. It shows no
patient: groups are scanners, sequences and senders.
"""

from typing import Final

from flask import abort, render_template, request
from flask_babel import gettext, lazy_gettext
from markupsafe import Markup
from sqlalchemy import select

from db.checkpoints import Checkpoint
from db.queries import drift as found
from db.queries.checkpoints import serving
from db.queries.drift import Against, Drift, Grouping
from db.states import Role
from web.access import requires
from web.pages.blueprint import pages
from web.plots.curves import Curve, curves
from web.services import services

GROUPINGS: Final[dict[Grouping, object]] = {
    "scanner": lazy_gettext("scanner"),
    "sequence": lazy_gettext("sequence"),
    "sender": lazy_gettext("sender"),
}
AGAINST: Final[dict[Against, object]] = {
    "validation": lazy_gettext("the slices that chose the model"),
    "before": lazy_gettext("the weeks before, here"),
}
MEASURES: Final[dict[str, object]] = {
    "answers": lazy_gettext("answers"),
    "probability": lazy_gettext("probability"),
    "distance": lazy_gettext("distance from training slices"),
    "border": lazy_gettext("picture’s edge"),
}


@pages.get("/admin/drift")
@requires(Role.ADMIN)
def drift() -> str:
    """Drift of one model's inputs and answers."""
    by, against = request.args.get("by", "scanner"), request.args.get("against", "validation")
    if by not in GROUPINGS or against not in AGAINST:
        abort(404)
    wanted = request.args.get("checkpoint", "")
    with services().database.read() as db:
        models = db.scalars(select(Checkpoint).order_by(Checkpoint.created_at.desc())).all()
        chosen = next((model for model in models if model.digest == wanted), None) or serving(db)
        seen = found.drift(db, chosen, by=by, against=against) if chosen else None
    return render_template(
        "admin/drift.html",
        models=models,
        chosen=chosen,
        seen=seen,
        by=by,
        against=against,
        groupings=GROUPINGS,
        references=AGAINST,
        measures=MEASURES,
        limits=(found.CHANGED, found.LARGELY_CHANGED),
        least=found.LEAST_SLICES,
        recent_weeks=found.RECENT_WEEKS,
        plot=_plot(seen) if seen else "",
    )


def _plot(seen: Drift) -> Markup:
    lines = []
    for style, (name, words) in enumerate(MEASURES.items()):
        points = [(-float(week.name), value) for week in seen.weeks if (value := week.indexes.get(name)) is not None]
        if points:
            lines.append(Curve(str(words), points, style, dots=True))
    highest = max((value for line in lines for _, value in line.points), default=0.0)
    return curves(
        "drift",
        gettext("Stability index by week"),
        gettext("Distance of each week from the reference; 0.25 and more is a large change."),
        lines,
        x_label=gettext("weeks"),
        y_label=gettext("stability index"),
        x_range=(-float(len(seen.weeks) - 1), 0.0),
        y_range=(0.0, max(0.3, highest * 1.05)),
    )
