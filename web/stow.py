"""Storing DICOM instances over the web: each one judged before the answer, each one named in it (PS3.18 10.5).

Owns the judgement, with the failure reasons of PS3.18 table I.2-2, and the grouping into submissions, which is the
listener's (`db.queries.receptions`), because clients split a study over several requests. What intake would refuse for
its header is refused here, where the answer has a place for the reason; pixels are met later, as everywhere.

Refuses to keep anything of an instance that the answer calls failed.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.queries import receptions
from db.queries.receptions import WAY_STOW, Sender
from db.queries.submissions import Sent
from imaging.dicom_uids import NoUids, Uids, read_uids
from imaging.outcomes import Outcome, Reason, RejectedFile
from web.access import the_user
from web.reception import Received
from web.sentences import english
from web.services import services

TITLE = "DICOMweb"
PRIVATE_CREATOR = "NEUROSIGHT"

CLASS_NOT_SUPPORTED = 0x0122
DOES_NOT_MATCH = 0xA900
NOT_UNDERSTOOD = 0xC000
SYNTAX_NOT_SUPPORTED = 0xC122

_COMMENT_LENGTH = 64
_OF_REASON = {
    Reason.MODALITY: CLASS_NOT_SUPPORTED,
    Reason.NO_PIXEL_DATA: CLASS_NOT_SUPPORTED,
    Reason.DICOMDIR: CLASS_NOT_SUPPORTED,
    Reason.TRANSFER_SYNTAX: SYNTAX_NOT_SUPPORTED,
}


@dataclass(frozen=True)
class Judged:
    """One part of the body.

    Attributes:
        uids: What it is; None when it does not say.
        reason: Failure reason; 0 when it is stored.
        words: Why, in English: what was found and what is accepted.
    """

    uids: Uids | None
    reason: int = 0
    words: str = ""


def store(received: Received, study_uid: str) -> list[Judged]:
    """Stores what can be used; durable when this returns.

    Args:
        received: A body that has arrived whole.
        study_uid: The study that all of them must be of; empty: any.

    Raises:
        StoreFull: The disk is full.
        DecodersUnavailable: The files could not be looked into.
    """
    parts = services()
    judged: list[Judged] = []
    studies: dict[str, list[Sent]] = defaultdict(list)
    for spooled in received.files:
        found = _judge(spooled.place, study_uid)
        judged.append(found)
        if found.uids is not None and not found.reason:
            parts.blobs.adopt(spooled.place, spooled.sha256)
            name = f"{found.uids.sop_instance}.dcm"
            studies[found.uids.study].append(Sent(name, spooled.sha256, spooled.size_bytes))
    user = the_user()
    sender = Sender(WAY_STOW, str(user.id), TITLE, user.id)
    if studies:
        with parts.database.write() as db:
            # Two requests with the same studies lock them in the same order.
            for uid in sorted(studies, key=lambda uid: receptions.group_key(sender, uid)):
                receptions.keep(db, sender, uid, studies[uid], parts.settings)
    return judged


def document(judged: Iterable[Judged]) -> dict[str, Any]:
    """The Store Instances Response Module (PS3.18 table 10.5.3-1) in the DICOM JSON model."""
    stored, failed, others = [], [], []
    for one in judged:
        if one.uids is None:
            others.append(_failure(one))
        elif one.reason:
            failed.append({**_reference(one.uids), **_failure(one)})
        else:
            stored.append(_reference(one.uids))
    answer: dict[str, Any] = {}
    for tag, items in (("00081198", failed), ("00081199", stored), ("0008119A", others)):
        if items:
            answer[tag] = {"vr": "SQ", "Value": items}
    return answer


def status(judged: list[Judged]) -> int:
    """200 all stored, 202 some, 409 none (PS3.18 table 10.5.3-2)."""
    failed = sum(bool(one.reason) for one in judged)
    return 200 if not failed else 409 if failed == len(judged) else 202


def _judge(path: Path, study_uid: str) -> Judged:
    try:
        uids = read_uids(path)
    except NoUids as missing:
        return Judged(None, NOT_UNDERSTOOD, str(missing))
    if study_uid and uids.study != study_uid:
        return Judged(uids, DOES_NOT_MATCH, "its StudyInstanceUID is not the one of the address")
    try:
        services().decoders.inspect(path)
    except RejectedFile as rejected:
        words = english(rejected.reason.value, rejected.detail)
        otherwise = CLASS_NOT_SUPPORTED if rejected.outcome is Outcome.NO_PIXELS else NOT_UNDERSTOOD
        return Judged(uids, _OF_REASON.get(rejected.reason, otherwise), words)
    return Judged(uids)


def _reference(uids: Uids) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [uids.sop_class]},
        "00081155": {"vr": "UI", "Value": [uids.sop_instance]},
    }


def _failure(one: Judged) -> dict[str, Any]:
    return {
        "00000902": {"vr": "LO", "Value": [one.words[:_COMMENT_LENGTH]]},
        "00081197": {"vr": "US", "Value": [one.reason]},
        # The comment is cut to what its VR can hold; the whole sentence stands in an element of our own.
        "00090010": {"vr": "LO", "Value": [PRIVATE_CREATOR]},
        "00091001": {"vr": "LT", "Value": [one.words]},
    }
