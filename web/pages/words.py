"""The words for states, priorities, outcomes and findings, in the reader's language.

Owns one table a vocabulary; a test walks the vocabularies, so that no raw name ever reaches a page.
"""

from typing import Any

from flask import Flask
from flask_babel import gettext, lazy_gettext

from db.queries import audit
from db.queries.promotions import Standing
from db.queries.selection import SERIES_NOT_CHOSEN
from db.queries.summaries import Finding
from db.queries.views import NOT_ASKED
from db.reviews import NOT_ASSESSABLE, WITHDRAWN, DecisionKind
from db.standings import ReviewState
from db.states import DatasetState, JobState, Priority, Purpose, Role, SliceState
from imaging.outcomes import Outcome
from imaging.text_risk import TextRisk
from web.blinding import COVERED
from web.dataset_sentences import template_of_problem
from web.pages.languages import add_filters, class_label, plane_label, sentence
from web.sentences import template_of

JOB_STATES = {
    JobState.RECEIVED: lazy_gettext("received"),
    JobState.OPENING: lazy_gettext("opening files"),
    JobState.CLASSIFYING: lazy_gettext("analysing"),
    JobState.SUCCEEDED: lazy_gettext("finished"),
    JobState.PARTIAL: lazy_gettext("partly finished"),
    JobState.FAILED: lazy_gettext("failed"),
    JobState.CANCELLED: lazy_gettext("cancelled"),
}
SLICE_STATES: dict[str, object] = {
    SliceState.PENDING: lazy_gettext("waiting"),
    SliceState.DONE: lazy_gettext("analysed"),
    SliceState.FAILED: lazy_gettext("failed"),
    SliceState.CANCELLED: lazy_gettext("cancelled"),
    SliceState.LEFT_OUT: lazy_gettext("not classified"),
    NOT_ASKED: lazy_gettext("not analysed by this model"),
    COVERED: lazy_gettext("not shown yet"),
}
REVIEW_STATES: dict[str, object] = {
    "waiting": lazy_gettext("waiting"),
    ReviewState.OPEN: lazy_gettext("not read"),
    ReviewState.BEGUN: lazy_gettext("begun"),
    ReviewState.SIGNED: lazy_gettext("signed off"),
    ReviewState.CHANGED: lazy_gettext("changed since it was signed off"),
    "all": lazy_gettext("all"),
}
DECISION_KINDS = {
    DecisionKind.OPINION: lazy_gettext("Opinion before the result was shown"),
    DecisionKind.SIGN_OFF: lazy_gettext("Signed off"),
    DecisionKind.REOPENED: lazy_gettext("Sign-off taken back"),
}
DATASET_STATES = {
    DatasetState.REGISTERING: lazy_gettext("being read"),
    DatasetState.READY: lazy_gettext("ready"),
    DatasetState.REFUSED: lazy_gettext("refused"),
}
PRIORITIES = {
    Priority.URGENT: lazy_gettext("urgent"),
    Priority.NORMAL: lazy_gettext("normal"),
    Priority.OFF_PEAK: lazy_gettext("off-peak"),
}
STANDINGS = {
    Standing.SERVING: lazy_gettext("serving"),
    Standing.SERVED: lazy_gettext("served before"),
    Standing.WITHDRAWN: lazy_gettext("withdrawn"),
    Standing.CANDIDATE: lazy_gettext("candidate"),
}
PURPOSES = {
    Purpose.SUBMISSION: lazy_gettext("submission"),
    Purpose.RECLASSIFICATION: lazy_gettext("classified again"),
    Purpose.SELECTION: lazy_gettext("further slices"),
    Purpose.SHADOW: lazy_gettext("shadow run"),
}
ROLES = {
    Role.SUBMITTER: lazy_gettext("submitter"),
    Role.CLINICIAN: lazy_gettext("clinician"),
    Role.ADMIN: lazy_gettext("administrator"),
}
OUTCOMES: dict[str, object] = {
    Outcome.ACCEPTED: lazy_gettext("accepted"),
    Outcome.DUPLICATE: lazy_gettext("duplicate"),
    Outcome.IGNORED: lazy_gettext("ignored"),
    Outcome.EMPTY: lazy_gettext("empty"),
    Outcome.NOT_AN_IMAGE: lazy_gettext("not an image"),
    Outcome.NO_PIXELS: lazy_gettext("no picture inside"),
    Outcome.UNSUPPORTED: lazy_gettext("unsupported"),
    Outcome.UNREADABLE: lazy_gettext("unreadable"),
    Outcome.OVER_LIMIT: lazy_gettext("over a limit"),
    Outcome.UNSAFE_NAME: lazy_gettext("unsafe name"),
    Outcome.UNSAFE: lazy_gettext("unsafe"),
    Outcome.ENCRYPTED: lazy_gettext("encrypted"),
    "uid_conflict": lazy_gettext("conflicting identifier"),
}
TEXT_RISKS = {
    TextRisk.DECLARED: lazy_gettext("A name may be written into the pixels: the header says so."),
    TextRisk.CAPTURE: lazy_gettext(
        "A name may be written into the pixels: this is a picture of a screen, a film or another program."
    ),
    TextRisk.SEEN: lazy_gettext("A name may be written into the pixels: something in them looks like letters."),
}
AUDIT_OUTCOMES = {
    audit.OK: lazy_gettext("done"),
    audit.DENIED: lazy_gettext("denied"),
    audit.FAILED: lazy_gettext("failed"),
}
FINDINGS = {
    Finding.TUMOUR: lazy_gettext("Tumour pattern found"),
    Finding.UNCERTAIN: lazy_gettext("Uncertain: needs a human look"),
    Finding.NO_TUMOUR: lazy_gettext("No tumour pattern found"),
    Finding.INCOMPLETE: lazy_gettext("Incomplete: not a negative result"),
    Finding.NONE: lazy_gettext("No result yet"),
}


def init_app(app: Flask) -> None:
    """Adds the filters."""
    add_filters(
        app,
        state_label=lambda state: str(JOB_STATES.get(state) or SLICE_STATES.get(state) or state),
        slice_state_label=lambda state: str(SLICE_STATES.get(state, state)),
        priority_label=lambda priority: str(PRIORITIES.get(priority, priority)),
        standing_label=lambda standing: str(STANDINGS.get(standing, standing)),
        purpose_label=lambda purpose: str(PURPOSES.get(purpose, purpose)),
        role_label=lambda role: str(ROLES.get(role, role)),
        outcome_label=lambda outcome: str(OUTCOMES.get(outcome, outcome)),
        finding_label=lambda finding: str(FINDINGS.get(finding, finding)),
        text_risk_sentence=lambda risk: str(TEXT_RISKS.get(risk, risk)),
        audit_label=lambda outcome: str(AUDIT_OUTCOMES.get(outcome, outcome)),
        reason_sentence=reason_sentence,
        left_out_label=left_out_label,
        decision_label=decision_label,
        review_label=lambda state: str(REVIEW_STATES.get(state, state)),
        decision_kind_label=lambda kind: str(DECISION_KINDS.get(kind, kind)),
        problem_sentence=problem_sentence,
        dataset_state_label=lambda state: str(DATASET_STATES.get(state, state)),
    )


def decision_label(label: str) -> str:
    """A clinician's decision about a slice."""
    if label == NOT_ASSESSABLE:
        return str(gettext("not assessable"))
    return class_label(label) if label != WITHDRAWN else str(gettext("taken back"))


def left_out_label(code: str, plane: str | None) -> str:
    """In a few words, why a slice was not classified; `plane`: its own."""
    if code == SERIES_NOT_CHOSEN:
        return str(gettext("series not chosen"))
    return str(gettext("%(plane)s: not classified", plane=plane_label(plane)))


def problem_sentence(problem: dict[str, Any]) -> str:
    """An entry of `TrainingDataset.problems` in the reader's language."""
    template, values = template_of_problem(problem, lambda text: str(gettext(text)) if text else "")
    return sentence(template, values)


def reason_sentence(reason: str, detail: dict[str, object], outcome: str = "") -> str:
    """The sentence that says why a file or a slice ended as it did, in the reader's language.

    Args:
        reason: A `Reason`, or a failure code of a worker.
        detail: What fills the sentence's places; words among them ("a PDF document") are translated too.
        outcome: Said instead when there is no reason.
    """
    if not reason and outcome in set(Outcome):
        return str(OUTCOMES[Outcome(outcome)])
    template, values = template_of(reason or "unknown", detail)
    return sentence(
        template,
        {name: gettext(value) if isinstance(value, str) and value else value for name, value in values.items()},
    )
