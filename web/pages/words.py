"""The words for states, priorities, outcomes and findings, in the reader's language.

Owns one table a vocabulary; a test walks the vocabularies, so that no raw name ever reaches a page.
"""

from flask import Flask
from flask_babel import gettext, lazy_gettext

from db.queries import audit
from db.queries.summaries import Finding
from db.states import JobState, Priority, Role, SliceState
from imaging.outcomes import SENTENCES, Outcome, Reason
from web.pages.languages import sentence

JOB_STATES = {
    JobState.RECEIVED: lazy_gettext("received"),
    JobState.OPENING: lazy_gettext("opening files"),
    JobState.CLASSIFYING: lazy_gettext("analysing"),
    JobState.SUCCEEDED: lazy_gettext("finished"),
    JobState.PARTIAL: lazy_gettext("partly finished"),
    JobState.FAILED: lazy_gettext("failed"),
    JobState.CANCELLED: lazy_gettext("cancelled"),
}
SLICE_STATES = {
    SliceState.PENDING: lazy_gettext("waiting"),
    SliceState.DONE: lazy_gettext("analysed"),
    SliceState.FAILED: lazy_gettext("failed"),
    SliceState.CANCELLED: lazy_gettext("cancelled"),
}
PRIORITIES = {
    Priority.URGENT: lazy_gettext("urgent"),
    Priority.NORMAL: lazy_gettext("normal"),
    Priority.OFF_PEAK: lazy_gettext("off-peak"),
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
FAILURES: dict[str, object] = {
    "sent_before": lazy_gettext(
        "This file was received before, in an earlier submission; its result is shown here too."
    ),
    "uid_conflict": lazy_gettext(
        "Another file with the same identifier but other content was received; both are analysed. Check the export."
    ),
    "worker_lost": lazy_gettext("The worker was lost each time it tried this; try again, or look at the file."),
    "poison": lazy_gettext("This stopped its worker each time and was set aside, so that the rest could finish."),
    "pixels_unusable": lazy_gettext("The pixels of this slice could not be used; export it again."),
    "blob_missing": lazy_gettext("The stored file is missing: tell the administrator, then send the study again."),
    "disk_full": lazy_gettext("The server's disk is full: tell the administrator, then try again."),
    "database_unavailable": lazy_gettext("The database could not be reached for a long time; try again."),
    "storage_unavailable": lazy_gettext("The file store could not be reached for a long time; try again."),
    "no_model": lazy_gettext("No model was ready for a long time: tell the administrator, then try again."),
    "no_usable_slice": lazy_gettext("None of the files could be used; the receipt says why for each of them."),
    "every_slice_failed": lazy_gettext("Every slice failed; the reasons stand below."),
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
    app.jinja_env.filters.update(
        state_label=lambda state: str(JOB_STATES.get(state) or SLICE_STATES.get(state) or state),
        slice_state_label=lambda state: str(SLICE_STATES.get(state, state)),
        priority_label=lambda priority: str(PRIORITIES.get(priority, priority)),
        role_label=lambda role: str(ROLES.get(role, role)),
        outcome_label=lambda outcome: str(OUTCOMES.get(outcome, outcome)),
        finding_label=lambda finding: str(FINDINGS.get(finding, finding)),
        audit_label=lambda outcome: str(AUDIT_OUTCOMES.get(outcome, outcome)),
        reason_sentence=reason_sentence,
    )


def reason_sentence(reason: str, detail: dict[str, object], outcome: str = "") -> str:
    """The sentence that says why a file or a slice ended as it did.

    Args:
        reason: A `Reason`, or a failure code of a worker.
        detail: What fills the sentence's places.
        outcome: Said instead when the reason has no sentence.
    """
    if reason in set(Reason):
        return sentence(SENTENCES[Reason(reason)], detail)
    if reason in FAILURES:
        return str(FAILURES[reason])
    return str(OUTCOMES[Outcome(outcome)]) if outcome in set(Outcome) else gettext("Failed (%(code)s).", code=reason)
