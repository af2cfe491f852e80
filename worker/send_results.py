"""Sends a study's results to an archive: makes each object, sends it, writes down the answer, then the next.

Owns the order that loses nothing: the plan with every UID is in the database before the first byte goes out, and an
answer is there before the next object goes. A worker that is killed in between costs at most one object sent twice,
under the same UID. Refuses to choose: what goes where stands in the sending.
"""

import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import structlog
from sqlalchemy.orm import Session

from db.blobs import BlobMissing
from db.exchange import Content, PeerKind, Sending
from db.predictions import Heatmap, Prediction
from db.queries import audit, claims, views
from db.queries import sendings as rows
from db.queries.claims import Claim
from db.queries.refusals import ExchangeRefused
from db.queries.sendings import ObjectToSend
from db.queries.visibility import Viewer
from db.states import Role
from db.studies import Instance, Study
from exchange import results
from exchange.peering import Answer, PeerRefused, PeerUnavailable, Route
from exchange.results import CAPTURE, REPORT, Planned, ResultObjects
from imaging import heatmaps
from imaging.frames import ImageInfo
from imaging.outcomes import RejectedFile
from worker.context import Context
from worker.faults import Transient
from worker.lease import Lease

KINDS: Mapping[Content, tuple[str, ...]] = {
    Content.BOTH: (CAPTURE, REPORT),
    Content.REPORT: (REPORT,),
    Content.CAPTURES: (CAPTURE,),
}

log = structlog.get_logger(__name__)


class Line(Protocol):
    """A way to a peer, whatever its protocol."""

    def store(self, data: bytes, sop_class_uid: str) -> Answer:
        """Sends one object."""
        ...


def run(context: Context, claim: Claim, lease: Lease) -> None:
    """Does a claimed sending from beginning to end, or from where it was cut short.

    Raises:
        LeaseLost: Somebody else has it, or it was stopped; nothing was written.
        Exception: Whatever `worker.work` is to judge.
    """
    with context.database.read() as session:
        wanted = rows.to_send(session, claim)
    if wanted is None:
        context.write(lease, lambda session: claims.finish(session, claim, note="gone"))
        return
    sending, study, peer = wanted
    try:
        if peer is None:
            raise PeerRefused("peer_gone")
        route = Route.to(peer, context.settings)
        objects = _plan(context, sending, study)
        stored, refused = _send(context, claim, lease, sending.id, route, objects)
    except (PeerRefused, ExchangeRefused) as error:
        detail: Mapping[str, Any] = error.detail if isinstance(error, PeerRefused) else error.facts
        _refuse(context, claim, lease, sending, error.code, detail)
    except RejectedFile as error:
        _refuse(context, claim, lease, sending, error.reason.value, error.detail)
    except BlobMissing:
        _refuse(context, claim, lease, sending, "blob_missing", {})
    except PeerUnavailable as error:
        raise Transient(error.code, str(error)) from error
    else:
        log.info("sent", sending_id=str(sending.id), stored=stored, refused=refused)


def _plan(context: Context, sending: Sending, study: Study) -> list[Planned]:
    with context.database.read() as session:
        # As whoever may send sees it; shadow runs' results are shown to nobody.
        view = views.study_view(session, Viewer(uuid.UUID(int=0), Role.CLINICIAN), study, sending.checkpoint.digest)
    if view.checkpoint is None or view.checkpoint.id != sending.checkpoint_id:
        raise ExchangeRefused("no_results", "There are no results of this study yet; wait until slices are analysed.")

    def inspect(digest: str) -> ImageInfo:
        with context.blobs.local_path(digest) as path:
            return context.decoders.inspect(path)

    found: ResultObjects = results.plan(view, inspect=inspect, overlay=lambda *what: _overlay(context, *what))
    return list(found.of(*KINDS[Content(sending.content)]))


def _send(
    context: Context, claim: Claim, lease: Lease, sending_id: uuid.UUID, route: Route, objects: list[Planned]
) -> tuple[int, int]:
    lease_s = context.settings.lease_s
    plan = [ObjectToSend(item.kind, item.sop_class_uid, item.sop_instance_uid) for item in objects]
    answered = context.write(lease, lambda session: rows.enter_plan(session, claim, sending_id, plan, lease_s=lease_s))
    left = [item for item in objects if item.sop_instance_uid not in answered]
    lease.progress = len(objects) - len(left)
    if left:
        with open_line(route, {item.sop_class_uid for item in left}) as line:
            for item in left:
                lease.check()
                answer = line.store(item.make(), item.sop_class_uid)
                context.write(lease, _answered(claim, sending_id, item.sop_instance_uid, answer, lease_s))
                lease.progress += 1

    def finish(session: Session) -> tuple[int, int]:
        stored, refused = rows.finish(session, claim, sending_id)
        _audit(session, sending_id, audit.FAILED if refused else audit.OK, {"stored": stored, "refused": refused})
        return stored, refused

    return context.write(lease, finish)


def _answered(
    claim: Claim, sending_id: uuid.UUID, sop_instance_uid: str, answer: Answer, lease_s: float
) -> Callable[[Session], None]:
    def write(session: Session) -> None:
        rows.answered(
            session,
            claim,
            sending_id,
            sop_instance_uid,
            stored=answer.stored,
            status=answer.status,
            comment=answer.comment,
            lease_s=lease_s,
        )

    return write


def open_line(route: Route, classes: set[str]) -> AbstractContextManager[Line]:
    """A way to the peer by its protocol; the library for it is loaded now."""
    if route.kind == PeerKind.DICOMWEB:
        from exchange import dicomweb

        return dicomweb.Line(route)
    from exchange import dimse

    return dimse.Line(route, sorted(classes))


def _overlay(context: Context, instance: Instance, prediction: Prediction) -> bytes:
    with context.database.read() as session:
        heatmap = session.get_one(Heatmap, prediction.id)
    with context.blobs.local_path(instance.content_sha256) as path:
        pixels = context.decoders.read_frame(path, instance.frame_index).pixels
    box = (heatmap.box_x0, heatmap.box_y0, heatmap.box_x1, heatmap.box_y1)
    placed = heatmaps.place(heatmaps.decode(heatmap.png), box, (instance.rows, instance.columns))
    return heatmaps.overlay(pixels, placed, heatmaps.DEFAULT_COLOUR_MAP, heatmaps.DEFAULT_OPACITY)


def _refuse(
    context: Context, claim: Claim, lease: Lease, sending: Sending, code: str, detail: Mapping[str, Any]
) -> None:
    def refuse(session: Session) -> None:
        rows.refuse(session, claim, sending.id, code, detail)
        _audit(session, sending.id, audit.FAILED, {"code": code})

    context.write(lease, refuse)
    log.warning("sending_refused", sending_id=str(sending.id), code=code)


def _audit(session: Session, sending_id: uuid.UUID, outcome: str, detail: Mapping[str, Any]) -> None:
    sending = session.get_one(Sending, sending_id)
    facts = {"sending": str(sending_id), "peer": sending.peer_name, "content": sending.content, **detail}
    audit.record(
        session,
        audit.SYSTEM,
        "study.sent",
        object_kind="study",
        object_id=sending.study_id,
        outcome=outcome,
        detail=facts,
    )
