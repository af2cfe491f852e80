"""The models: which serves and which served when, one model's card, promotion, rollback, and recall.

Owns these pages and forms. The rules stand in `db.queries.promotions` and `withdrawals`, the order of the actions in
`web.registry`; a refusal is said beside the form that was sent, and what was typed stays there.
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import Response, flash, make_response, render_template, request
from flask_babel import gettext, ngettext
from markdown_it import MarkdownIt
from markupsafe import Markup

from db.queries import comparisons, heartbeats, imports, promotions, withdrawals
from db.queries.refusals import RegistryRefused
from db.queries.reruns import Rerun
from db.states import Priority, Role
from web import model_files, registry
from web.access import requires
from web.objects import note
from web.pages import run_plots
from web.pages.blueprint import pages
from web.pages.languages import sentence
from web.pages.redirects import see
from web.problems import Problem
from web.services import services


@pages.get("/model")
@requires(Role.SUBMITTER)
def model() -> str:
    """The serving checkpoint's card."""
    with services().database.read() as db:
        times = promotions.periods(db)
    serving = times[0].checkpoint if times else None
    card = render_card(serving.model_card) if serving else Markup("")
    return render_template("checkpoints/serving.html", serving=serving, periods=times, card=card)


@pages.get("/checkpoints")
@requires(Role.CLINICIAN)
def checkpoints() -> str:
    """Every registered checkpoint, and which of them served when."""
    asked = request.args.get("at", "").strip()
    moment = _moment(asked)
    with services().database.read() as db:
        rows = promotions.standings(db)
        times = promotions.periods(db)
        found = promotions.served_at(db, moment) if moment else None
        back = promotions.before_serving(db)
        runs = imports.runs_without_model(db)
    return render_template(
        "checkpoints/list.html",
        rows=rows,
        periods=times,
        asked=asked,
        moment=moment,
        found=found,
        back=back,
        newest=times[0] if times else None,
        runs=runs,
    )


@pages.get("/checkpoints/<uuid:checkpoint_id>")
@requires(Role.CLINICIAN)
def checkpoint(checkpoint_id: uuid.UUID) -> str:
    """One checkpoint: its card, its numbers, its history, and what can be done with it."""
    parts = services()
    with parts.database.read() as db:
        found = registry.find_checkpoint(db, checkpoint_id)
        row = promotions.standing_of(db, found)
        history = withdrawals.history(db, checkpoint_id)
        made_by = imports.run_of(db, checkpoint_id)
        refusing = [
            worker
            for worker in heartbeats.alive(db, age_s=parts.settings.worker_ready_age_s)
            if worker.facts.get("checkpoint_refused") == str(checkpoint_id)
        ]
    return render_template(
        "checkpoints/checkpoint.html",
        row=row,
        checkpoint=found,
        history=history,
        made_by=made_by,
        file_name=model_files.file_name(found),
        refusing=len(refusing),
        card=render_card(found.model_card),
        priorities=list(Priority),
        reliability=_reliability(found.manifest),
    )


def _reliability(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Reliability diagrams of the parts whose calibration error stands in the manifest with its interval."""
    measured = (manifest.get("metrics") or {}).get("calibration") or {}
    return [
        {"part": part, "found": found, "plot": run_plots.reliability(part, found)}
        for part in ("validation", "test")
        if isinstance(found := measured.get(part), Mapping) and isinstance(found.get("ece_before"), Mapping)
    ]


@pages.get("/checkpoints/<uuid:checkpoint_id>/promote", endpoint="promote")
@requires(Role.ADMIN)
def promote_form(checkpoint_id: uuid.UUID) -> Response:
    """What a promotion would change, and the form for it."""
    return _promote_page(checkpoint_id)


@pages.post("/checkpoints/<uuid:checkpoint_id>/promote")
@requires(Role.ADMIN)
def promote_checkpoint(checkpoint_id: uuid.UUID) -> Response:
    """Promotes a checkpoint."""
    try:
        done = registry.promote(
            checkpoint_id,
            reason=request.form.get("reason", ""),
            seen=_seen(),
            accept_classes=request.form.get("accept_classes") == "1",
        )
    except RegistryRefused as refused:
        return _promote_page(checkpoint_id, refused)
    flash(gettext("%(name)s serves from now on. Workers load it within seconds.", name=done.name), "good")
    return see("pages.checkpoints")


@pages.post("/checkpoints/rollback")
@requires(Role.ADMIN)
def roll_back() -> Response:
    """Returns to the checkpoint that served before and withdraws the present one."""
    with services().database.read() as db:
        newest = promotions.newest_promotion(db)
    try:
        done = registry.roll_back(reason=request.form.get("reason", ""), seen=_seen())
    except RegistryRefused as refused:
        return say_refused(refused, "pages.checkpoints")
    flash(
        gettext(
            "%(name)s serves again. The results of the model before are marked as withdrawn; here they are listed and "
            "can be run again.",
            name=done.name,
        ),
        "good",
    )
    return see("pages.recall", checkpoint_id=newest.checkpoint_id) if newest else see("pages.checkpoints")


@pages.post("/checkpoints/<uuid:checkpoint_id>/withdraw")
@requires(Role.ADMIN)
def withdraw_checkpoint(checkpoint_id: uuid.UUID) -> Response:
    """Marks the results of a checkpoint that does not serve."""
    try:
        registry.withdraw(checkpoint_id, reason=request.form.get("reason", ""))
    except RegistryRefused as refused:
        return say_refused(refused, "pages.checkpoint", checkpoint_id=checkpoint_id)
    flash(gettext("The results of this model are marked as withdrawn on every page."), "good")
    return see("pages.recall", checkpoint_id=checkpoint_id)


@pages.post("/checkpoints/<uuid:checkpoint_id>/lift")
@requires(Role.ADMIN)
def lift_withdrawal(checkpoint_id: uuid.UUID) -> Response:
    """Removes the mark again."""
    try:
        registry.lift(checkpoint_id)
    except RegistryRefused as refused:
        return say_refused(refused, "pages.checkpoint", checkpoint_id=checkpoint_id)
    flash(gettext("The withdrawal is lifted; the marks are gone, the history stays."), "good")
    return see("pages.checkpoint", checkpoint_id=checkpoint_id)


@pages.get("/checkpoints/<uuid:checkpoint_id>/results", endpoint="recall")
@requires(Role.CLINICIAN)
def recall(checkpoint_id: uuid.UUID) -> str:
    """Every study with results of a checkpoint, and running them again."""
    try:
        number = int(request.args.get("page", "1"))
    except ValueError:
        raise Problem(404, "not_found", "There is no such page.") from None
    note("checkpoint", "checkpoint.results", checkpoint_id, once_in_s=300)
    with services().database.read() as db:
        found = registry.find_checkpoint(db, checkpoint_id)
        newest = promotions.newest_promotion(db)
        serving_id = newest.checkpoint_id if newest else None
        return render_template(
            "checkpoints/recall.html",
            checkpoint=found,
            row=promotions.standing_of(db, found),
            affected=withdrawals.affected(db, checkpoint_id, serving_id, number),
            serving=registry.find_checkpoint(db, serving_id) if serving_id else None,
            priorities=list(Priority),
        )


@pages.get("/checkpoints/<uuid:checkpoint_id>/results.csv")
@requires(Role.CLINICIAN)
def recall_csv(checkpoint_id: uuid.UUID) -> Response:
    """The same, one row a slice, as CSV."""
    return registry.affected_csv(checkpoint_id)


@pages.post("/checkpoints/<uuid:checkpoint_id>/rerun")
@requires(Role.ADMIN)
def rerun_all(checkpoint_id: uuid.UUID) -> Response:
    """Runs every study with results of a checkpoint again, with the serving one."""
    try:
        made = registry.run_again(checkpoint_id, priority=wanted_priority())
    except RegistryRefused as refused:
        return say_refused(refused, "pages.recall", checkpoint_id=checkpoint_id)
    return started(made)


@pages.post("/studies/<uuid:study_id>/reclassify")
@requires(Role.ADMIN)
def reclassify_study(study_id: uuid.UUID) -> Response:
    """Runs one study again, with the serving checkpoint."""
    try:
        made = registry.reclassify_study(study_id, priority=Priority.NORMAL)
    except RegistryRefused as refused:
        return say_refused(refused, "pages.study", study_id=study_id)
    return started(made)


@pages.post("/checkpoints/reclassify")
@requires(Role.ADMIN)
def reclassify_period() -> Response:
    """Runs every study received in a period again, with the serving checkpoint."""
    since, until = _moment(request.form.get("since", "")), _moment(request.form.get("until", ""), end=True)
    try:
        if since is None or until is None:
            raise RegistryRefused(
                "period_unreadable", "Give both ends of the period as dates, such as 2026-11-25.", status=422
            )
        made = registry.reclassify_period(since, until, priority=wanted_priority())
    except RegistryRefused as refused:
        return say_refused(refused, "pages.checkpoints")
    return started(made)


def started(made: list[Rerun]) -> Response:
    """Says what was started, and goes to the job, or to the jobs."""
    slices = sum(item.slices for item in made)
    message = ngettext(
        "%(num)d slice is classified again with the serving model; what was there before stays readable.",
        "%(num)d slices are classified again with the serving model; what was there before stays readable.",
        slices,
    )
    flash(message, "good")
    return see("pages.job", job_id=made[0].job_id) if len(made) == 1 else see("pages.jobs")


def wanted_priority() -> Priority:
    """The urgency that a form names; off-peak without one."""
    try:
        return Priority(request.form.get("priority", Priority.OFF_PEAK))
    except ValueError:
        raise Problem(422, "priority_unknown", "Choose one of the offered priorities.") from None


def render_card(text: str) -> Markup:
    """A model card's Markdown as HTML; HTML inside it is shown as text, links and pictures are not followed."""
    renderer = MarkdownIt("js-default", {"html": False, "linkify": False}).disable("image")
    html = str(renderer.render(text))
    # Wide tables scroll by themselves; a page that scrolls sideways cannot be read on a phone.
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    return Markup(html)  # noqa: S704 - the renderer escapes all HTML of its source


def _promote_page(checkpoint_id: uuid.UUID, refused: RegistryRefused | None = None) -> Response:
    with services().database.read() as db:
        found = registry.find_checkpoint(db, checkpoint_id)
        row = promotions.standing_of(db, found)
        times = promotions.periods(db)
        serving = times[0] if times else None
        comparison = comparisons.newest(db, checkpoint_id, serving.checkpoint.id) if serving else None
        slices = comparisons.slices_for(db, found, serving.checkpoint) if serving else None
        choices = [] if slices else registry.ready_datasets(db)
    context: dict[str, Any] = {
        "comparison": comparison,
        "slices": slices,
        "datasets": choices,
        "checkpoint": found,
        "row": row,
        "serving": serving,
        "changed": promotions.other_classes(found, serving.checkpoint if serving else None),
        "error": sentence(refused.template, dict(refused.facts)) if refused else "",
        "typed": request.form if refused else {},
    }
    fragment = bool(request.headers.get("HX-Request"))
    page = render_template("checkpoints/_comparison.html" if fragment else "checkpoints/promote.html", **context)
    return make_response(page, refused.status if refused else 200)


def say_refused(refused: RegistryRefused, endpoint: str, **values: object) -> Response:
    """Says why nothing was done, on the page from which it was asked."""
    flash(sentence(refused.template, dict(refused.facts)), "error")
    return see(endpoint, **values)


def _seen() -> uuid.UUID | None:
    """The promotion that was in force when the form was made."""
    try:
        return uuid.UUID(request.form.get("seen", ""))
    except ValueError:
        return None


def _moment(text: str, *, end: bool = False) -> datetime | None:
    """A date or a time in UTC as a browser sends it; a date alone is its beginning, or its end."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if end and "T" not in text and " " not in text.strip():
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
