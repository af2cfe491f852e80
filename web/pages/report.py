"""The report of a study as PDF, in the reader's language.

Owns what it says: the clinician's decision before the network's answer, key slices, what was not analysed, the model by
its digest, the limits. A study that nobody has signed off gives a report that says so on every page. Refuses results
of a study about which the reader has to give his opinion first.
"""

import uuid
from collections.abc import Sequence
from typing import Final

from flask import Response
from flask_babel import get_locale, gettext

from db.base import utc_now
from db.predictions import Heatmap, Prediction
from db.queries import study_decisions, views
from db.queries.study_decisions import StudyOpinion
from db.queries.summaries import NO_TUMOUR_CLASSES, THRESHOLD
from db.queries.views import SliceView, StudyView
from db.reviews import NOT_ASSESSABLE, DecisionKind
from db.standings import ReviewState
from db.states import Role
from imaging.heatmaps import DEFAULT_COLOUR_MAP, DEFAULT_OPACITY
from web import blinding, pictures, report_layout, reviewing
from web.access import requires, the_user
from web.objects import find_study, note_view
from web.pages.blueprint import pages
from web.pages.display import dicom_date, moment, percent
from web.pages.languages import class_label, plane_label
from web.pages.studies import slice_name
from web.pages.words import DECISION_KINDS, FINDINGS, decision_label
from web.report_layout import KeySlice, Report, Section
from web.services import services

KEY_SLICES: Final = 6
CORRECTED_SLICES: Final = 40
LOOK: Final = (DEFAULT_COLOUR_MAP, DEFAULT_OPACITY)


@pages.get("/studies/<uuid:study_id>/report.pdf")
@requires(Role.CLINICIAN)
def study_report(study_id: uuid.UUID) -> Response:
    """The report as it stands now."""
    with services().database.read() as db:
        find_study(db, study_id)
        blinding.refuse_covered(db, [study_id])
    note_view("study.report", study_id)
    standing = reviewing.fresh_standing(study_id)
    state = ReviewState(standing.review_state) if standing else ReviewState.OPEN
    with services().database.read() as db:
        view = views.study_view(db, the_user().viewer, find_study(db, study_id))
        history = study_decisions.history(db, study_id)
        keys = _key_slices(view)
        maps = {item.id: db.get(Heatmap, item.id) for key in keys if (item := key.prediction)}
    body = report_layout.render(_report(view, history, state, [_picture(view, key, maps) for key in keys]))
    response = Response(body, content_type="application/pdf")
    response.headers["Content-Disposition"] = f'inline; filename="report-{study_id}.pdf"'
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _report(view: StudyView, history: Sequence[StudyOpinion], state: ReviewState, keys: Sequence[KeySlice]) -> Report:
    signed = state == ReviewState.SIGNED
    mark = gettext("RESEARCH USE ONLY – not a medical device, not for diagnosis")
    if not signed:
        mark += " – " + gettext("PRELIMINARY, not signed off")
    locale = get_locale()
    return Report(
        language=locale.language if locale else "en",
        title=gettext("Report of a study of the head"),
        subtitle=gettext("Made %(when)s by %(who)s", when=moment(utc_now()), who=the_user().display_name),
        warning=_warning(view, state),
        mark=mark,
        foot=gettext("Study %(study)s · model %(digest)s", study=view.study.id, digest=_digest(view)[:12]),
        page_of=gettext("Page %(page)s of %(pages)s"),
        before=[_study(view), _decision(history, state), _network(view)],
        pictures_title=gettext("Key slices"),
        pictures_note=gettext(
            "The heatmap shows where the network looked, not where the tumour is. Slices: first those about which a "
            "clinician decided otherwise, then the most suspicious ones."
        ),
        captions=(gettext("As received"), gettext("With heatmap (Grad-CAM)")),
        pictures=keys,
        after=[*_decided_slices(view), _model(view), _limits(view), *_history(history)],
    )


def _warning(view: StudyView, state: ReviewState) -> str:
    said = []
    if view.withdrawal:
        said.append(
            gettext("The model behind these results was withdrawn; do not rely on them.") + f" {view.withdrawal.reason}"
        )
    if state == ReviewState.CHANGED:
        said.append(gettext("The results or decisions about slices have changed since this study was signed off."))
    elif state != ReviewState.SIGNED:
        said.append(gettext("Nobody has signed this study off. What follows is what a network said, unread."))
    return " ".join(said)


def _study(view: StudyView) -> Section:
    study, identity = view.study, view.identity
    facts = []
    if identity:
        name = identity.patient_name.replace("^", " ").strip()
        facts += [
            (gettext("Patient"), name),
            (gettext("Patient ID"), identity.patient_id),
            (gettext("Date of birth"), dicom_date(identity.birth_date)),
            (gettext("Accession number"), identity.accession_number),
        ]
    facts += [
        (gettext("Study"), study.title or study.description),
        (gettext("Study date"), dicom_date(study.study_date)),
        (gettext("Study UID"), study.study_instance_uid or ""),
        (gettext("Received"), moment(study.created_at)),
    ]
    return Section(gettext("Study"), facts=[(name, value) for name, value in facts if value])


def _decision(history: Sequence[StudyOpinion], state: ReviewState) -> Section:
    title = gettext("Decision of the clinician")
    found = next((item for item in history if item.kind == DecisionKind.SIGN_OFF), None)
    if found is None or state not in (ReviewState.SIGNED, ReviewState.CHANGED):
        return Section(title, texts=[gettext("None yet.")])
    facts = [
        (gettext("Decision"), decision_label(found.label)),
        (gettext("Signed off by"), found.by or "–"),
        (gettext("When"), moment(found.at)),
    ]
    if found.note:
        facts.append((gettext("Note"), found.note))
    network = str(found.results.get("leading_class", ""))
    if found.label != NOT_ASSESSABLE and network:
        same = gettext("yes") if found.label == network else gettext("no: the network said %(name)s")
        facts.append((gettext("As the network"), same % {"name": class_label(network)} if "%" in same else same))
    return Section(title, facts=facts)


def _network(view: StudyView) -> Section:
    summary = view.summary
    finding = str(FINDINGS[summary.finding])
    if summary.leading_class:
        finding += f": {class_label(summary.leading_class)}"
    facts = [(gettext("Finding"), finding)]
    if summary.other_classes:
        facts.append((gettext("Also found"), ", ".join(map(class_label, summary.other_classes))))
    counts = [gettext("%(done)s of %(total)s slices analysed", done=summary.analysed, total=summary.total)]
    for count, text in (
        (summary.abstained, gettext("%(count)s without an answer")),
        (summary.failed, gettext("%(count)s failed")),
        (summary.waiting, gettext("%(count)s waiting")),
        (summary.not_asked, gettext("%(count)s not analysed by this model")),
        (summary.not_classified, gettext("%(count)s not classified")),
    ):
        if count:
            counts.append(text % {"count": count})
    facts.append((gettext("Slices"), ", ".join(counts)))
    if not summary.is_complete:
        facts.append((gettext("Complete"), gettext("No. What was not analysed is not negative.")))
    head = [gettext("Class"), gettext("Slices"), gettext("Highest calibrated probability")]
    rows = [
        [class_label(item.class_name), str(item.slices), percent(item.peak_probability)] for item in summary.support
    ]
    return Section(gettext("What the network says"), facts=facts, table=[head, *rows] if rows else [])


def _key_slices(view: StudyView) -> list[SliceView]:
    """Those that were decided otherwise, then the most suspicious ones; in the order of the study."""

    def rank(item: SliceView) -> tuple[bool, float]:
        prediction = item.prediction
        decision = view.labels.get(item.instance.id)
        other = bool(decision and prediction and decision.label not in (NOT_ASSESSABLE, prediction.class_name))
        return other, _suspicion(prediction)

    answered = [item for item in view.slices if item.prediction and not item.prediction.abstention]
    chosen = sorted(answered, key=rank, reverse=True)[:KEY_SLICES]
    return [item for item in view.slices if item in chosen]


def _suspicion(prediction: Prediction | None) -> float:
    """Probability of any tumour, in [0, 1]."""
    if prediction is None:
        return 0.0
    return float(sum(value for name, value in prediction.probabilities.items() if name not in NO_TUMOUR_CLASSES))


def _picture(view: StudyView, item: SliceView, maps: dict[uuid.UUID, Heatmap | None]) -> KeySlice:
    instance, prediction = item.instance, item.prediction
    lines = [plane_label(instance.plane)]
    if instance.position_mm is not None:
        lines[0] += f", {instance.position_mm:.1f} mm"
    overlay = None
    if prediction:
        lines.append(gettext("Network: %(name)s", name=_probabilities(prediction)))
        found = maps.get(prediction.id)
        overlay = pictures.overlay_png(instance, found, *LOOK) if found else None
    decision = view.labels.get(instance.id)
    lines.append(gettext("Clinician: %(name)s", name=_said(view, item) if decision else "–"))
    return KeySlice(gettext("Slice %(name)s", name=slice_name(instance)), lines, pictures.slice_png(instance), overlay)


def _probabilities(prediction: Prediction) -> str:
    found = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])[:2]
    return "; ".join(f"{class_label(name)} {percent(value)}" for name, value in found)


def _said(view: StudyView, item: SliceView) -> str:
    decision = view.labels[item.instance.id]
    text = f"{decision_label(decision.label)} ({decision.by or '–'}, {moment(decision.at)})"
    return f"{text}: {decision.note}" if decision.note else text


def _decided_slices(view: StudyView) -> list[Section]:
    rows = [
        [
            slice_name(item.instance),
            plane_label(item.instance.plane),
            _probabilities(item.prediction) if item.prediction and not item.prediction.abstention else "–",
            _said(view, item),
        ]
        for item in view.slices
        if item.instance.id in view.labels
    ]
    if not rows:
        return []
    head = [gettext("Slice"), gettext("Plane"), gettext("Network"), gettext("Clinician")]
    left = len(rows) - CORRECTED_SLICES
    texts = [gettext("%(count)s more stand in the results as CSV.", count=left)] if left > 0 else []
    return [Section(gettext("Decisions about slices"), table=[head, *rows[:CORRECTED_SLICES]], texts=texts)]


def _model(view: StudyView) -> Section:
    checkpoint = view.checkpoint
    title = gettext("Model")
    if checkpoint is None:
        return Section(title, texts=[gettext("No result yet")])
    predictions = [item.prediction for item in view.slices if item.prediction]
    made = sorted({f"{item.engine}, {item.code_version}" for item in predictions})
    manifest = checkpoint.manifest
    temperature = manifest.get("temperature")
    facts = [
        (gettext("Name"), checkpoint.name),
        (gettext("Digest (SHA-256)"), checkpoint.digest),
        (gettext("Network"), checkpoint.network),
        (gettext("Classes"), ", ".join(map(class_label, checkpoint.class_names))),
        (gettext("Calibration temperature"), f"{temperature:.3f}" if isinstance(temperature, float) else ""),
        (gettext("Engine and version"), "; ".join(made)),
        (gettext("Results made"), moment(max(item.created_at for item in predictions)) if predictions else ""),
    ]
    return Section(title, facts=[(name, value) for name, value in facts if value])


def _limits(view: StudyView) -> Section:
    points = [
        gettext(
            "The network may miss tumours and may see tumours where there are none. A qualified reader must look at "
            "the images."
        ),
        gettext(
            "A slice counts as a finding from a calibrated probability of %(threshold)s on; one such slice is enough. "
            "It is no probability for the patient: with many slices a false alarm becomes likelier.",
            threshold=percent(THRESHOLD),
        ),
        gettext(
            "Probabilities are calibrated on images like those that the model was validated on; on others they may "
            "be wrong. The model card says what it was tested on."
        ),
        gettext(
            "The network knows only these classes: %(classes)s.",
            classes=", ".join(map(class_label, view.checkpoint.class_names if view.checkpoint else [])),
        ),
    ]
    return Section(gettext("Limits"), points=points if view.checkpoint else points[:3])


def _history(history: Sequence[StudyOpinion]) -> list[Section]:
    if not history:
        return []
    head = [gettext("Step"), gettext("Decision"), gettext("Who"), gettext("When")]
    rows = [
        [
            str(DECISION_KINDS[item.kind]),
            "–" if item.kind == DecisionKind.REOPENED else decision_label(item.label),
            item.by or "–",
            moment(item.at),
        ]
        for item in history
    ]
    return [Section(gettext("History of decisions"), table=[head, *rows])]


def _digest(view: StudyView) -> str:
    return view.checkpoint.digest if view.checkpoint else "–"
