"""Fetches the studies of one accession number from an archive and submits them like anybody's upload.

Owns the order that loses nothing: an instance's bytes are in the blob store before its row is in the upload, and the
upload becomes a job only when everything that the archive listed was asked for. A worker that is killed in between
costs one batch that is fetched again. Refuses to open a file: what it is, intake finds out.
"""

import io
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final

import structlog
from sqlalchemy.orm import Session

from db.exchange import RetrievedStudy
from db.queries import audit, claims, housekeeping
from db.queries import retrievals as rows
from db.queries.claims import Claim
from db.queries.refusals import ExchangeRefused
from db.queries.retrievals import LineToFetch
from db.queries.submissions import Sent, SubmissionRefused, Submitted
from db.states import Priority
from exchange.archive import Archive, Listed, open_archive
from exchange.off_peak import seconds_until
from exchange.peering import PeerRefused, PeerUnavailable, Route
from worker.context import Context
from worker.faults import Transient
from worker.lease import Lease

BATCH: Final = 16
"""Instances of one request over DIMSE, and of one transaction."""

log = structlog.get_logger(__name__)


def run(context: Context, claim: Claim, lease: Lease) -> None:
    """Does a claimed line from beginning to end, or from where it was cut short.

    Raises:
        LeaseLost: Somebody else has it, or it was stopped; nothing was written.
        Exception: Whatever `worker.work` is to judge.
    """
    with context.database.read() as session:
        wanted = rows.to_fetch(session, claim)
    if wanted is None:
        context.write(lease, lambda session: claims.finish(session, claim, note="gone"))
        return
    wait_s = seconds_until(datetime.now().astimezone(), context.settings)
    if wanted.retrieval.priority == Priority.OFF_PEAK and wait_s > 0:
        context.write(lease, lambda session: _put_off(session, claim, wait_s))
        return
    try:
        if wanted.peer is None:
            raise PeerRefused("peer_gone")
        with open_archive(Route.to(wanted.peer, context.settings)) as archive:
            _fetch_line(context, claim, lease, wanted, archive)
    except (PeerRefused, ExchangeRefused) as error:
        detail: Mapping[str, Any] = error.detail if isinstance(error, PeerRefused) else error.facts
        _refuse(context, claim, lease, wanted, error.code, detail)
    except SubmissionRefused as error:
        code = "nothing_fetched" if error.code == "empty" else f"study_{error.code}"
        _refuse(context, claim, lease, wanted, code, {"limit": error.limit or 0})
    except PeerUnavailable as error:
        raise Transient(error.code, str(error)) from error


def _put_off(session: Session, claim: Claim, wait_s: float) -> None:
    housekeeping.put_back(session, claim, delay_s=wait_s, error_code="off_peak", error_detail={}, counts=False)


def _fetch_line(context: Context, claim: Claim, lease: Lease, wanted: LineToFetch, archive: Archive) -> None:
    settings = context.settings
    uids = archive.studies(wanted.accession_number)
    if not uids:
        raise PeerRefused("number_not_found")
    studies = context.write(
        lease, lambda session: rows.enter_studies(session, claim, wanted.line_id, uids, lease_s=settings.lease_s)
    )
    for study in studies:
        _fetch_study(context, claim, lease, wanted, study, archive)

    def finish(session: Session) -> tuple[int, int]:
        fetched, expected = rows.finish(session, claim, wanted.line_id)
        outcome = audit.OK if fetched == expected else audit.FAILED
        _audit(session, wanted, outcome, {"studies": len(uids), "fetched": fetched, "expected": expected})
        return fetched, expected

    fetched, expected = context.write(lease, finish)
    log.info("retrieved", line_id=str(wanted.line_id), studies=len(uids), fetched=fetched, expected=expected)


def _fetch_study(
    context: Context, claim: Claim, lease: Lease, wanted: LineToFetch, study: RetrievedStudy, archive: Archive
) -> None:
    settings = context.settings
    listed = archive.instances(study.study_instance_uid)
    if not listed:
        raise PeerRefused("study_empty")

    def begin(session: Session) -> set[str]:
        return rows.open_study(session, claim, study.id, wanted.retrieval, len(listed), settings)

    def path(uid: str) -> str:
        """The name under which an instance stands in the receipt; its UID stays out of a store that de-identifies."""
        return f"{uuid.uuid5(study.id, uid) if settings.deidentify else uid}.dcm"

    there = context.write(lease, begin)
    for batch in _batches([item for item in listed if path(item.sop_instance_uid) not in there]):
        lease.check()
        files = _fetch_batch(context, study.study_instance_uid, batch, archive, path)
        context.write(lease, _keeping(claim, study.id, files, context))
        lease.progress += len(files)

    def complete(session: Session) -> Submitted:
        return rows.complete_study(session, claim, study.id, settings)

    submitted = context.write(lease, complete)
    if submitted.ring is not None:
        context.doorbell.ring_committed(context.database, [submitted.ring[2]])


def _fetch_batch(
    context: Context, study_uid: str, batch: Sequence[Listed], archive: Archive, path: Callable[[str], str]
) -> list[Sent]:
    """The instances of a batch that came, in the blob store; nothing that was not asked for."""
    asked = {item.sop_instance_uid for item in batch}
    files: dict[str, Sent] = {}

    def keep(uid: str, data: bytes) -> None:
        if uid in asked and len(data) <= context.settings.max_file_bytes:
            digest, size = context.blobs.put(io.BytesIO(data))
            files[uid] = Sent(path(uid), digest, size)

    archive.fetch(study_uid, batch, keep)
    return list(files.values())


def _keeping(claim: Claim, study_id: uuid.UUID, files: Sequence[Sent], context: Context) -> Any:
    return lambda session: rows.keep(session, claim, study_id, files, context.settings)


def _batches(listed: Sequence[Listed]) -> Iterator[Sequence[Listed]]:
    """At most so many instances of one series each."""
    for _, group in groupby(
        sorted(listed, key=lambda item: item.series_instance_uid), key=lambda item: item.series_instance_uid
    ):
        series = list(group)
        for start in range(0, len(series), BATCH):
            yield series[start : start + BATCH]


def _refuse(
    context: Context, claim: Claim, lease: Lease, wanted: LineToFetch, code: str, detail: Mapping[str, Any]
) -> None:
    def refuse(session: Session) -> None:
        rows.refuse(session, claim, wanted.line_id, code, detail)
        _audit(session, wanted, audit.FAILED, {"code": code})

    context.write(lease, refuse)
    log.warning("retrieval_refused", line_id=str(wanted.line_id), code=code)


def _audit(session: Session, wanted: LineToFetch, outcome: str, detail: Mapping[str, Any]) -> None:
    """Without the accession number: it is identity."""
    facts = {"line": str(wanted.line_id), "peer": wanted.retrieval.peer_name, **detail}
    audit.record(
        session,
        audit.SYSTEM,
        "retrieval.fetched",
        object_kind="retrieval",
        object_id=wanted.retrieval.id,
        outcome=outcome,
        detail=facts,
    )
