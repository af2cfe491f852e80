"""The DICOM listener: C-ECHO and C-STORE as service class provider (PS3.4 annexes A and B), plain or with TLS.

Owns the application entity: what it accepts, whom it refuses and how it says so, and its end. Instances arrive in
files in a workspace on the blob store's disk, so that memory does not grow with them, and each is answered when
`gateway.instances` has made it durable. One process holds one listener; several may stand behind one address, for all
they share are database and blob store.

Refuses to log who a patient is: pynetdicom's own lines, which show data sets and UIDs, are switched off.
"""

import logging
import os
import shutil
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made at import

from config.dicom_peers import known_peer, parse_peers
from config.settings import Settings
from db.blobs import BlobStore
from db.queries import receptions
from db.queries.receptions import UnknownSender
from db.session import Database
from gateway.instances import OUT_OF_RESOURCES, PROCESSING_FAILURE, SUCCESS, Answer, Instances
from gateway.transport import Bounds, Server, Traffic
from imaging.dicom import TRANSFER_SYNTAXES

ASSOCIATE_WAIT_S = 15.0
"""So long a connection may take to ask for an association."""
LAST_ASSOCIATIONS_S = 5.0
TICK_S = 1.0
COMMENT_LENGTH = 64

# (result, source, diagnostic) of PS3.8 table 9-21.
_CALLING_AE_UNKNOWN = (0x01, 0x01, 0x03)
_CONGESTED = (0x02, 0x03, 0x01)

_LOSSY = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K})

log = logging.getLogger(__name__)


class Listener:
    """A listener that runs until it is closed.

    Args:
        settings: With a port, peers and an account.
        database: The store of rows.
        blobs: The store of bytes.
        workspace: Folder on the blob store's disk, of this listener alone.

    Raises:
        OSError: The port is taken, or a certificate cannot be read.
    """

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore, workspace: Path) -> None:
        self._settings, self._workspace = settings, workspace
        self._instances = Instances(settings, database, blobs)
        self._peers = parse_peers(settings.dicom_allowed_peers)
        entity = AE(settings.dicom_ae_title)
        entity.require_called_aet = True
        entity.maximum_associations = settings.dicom_max_associations
        entity.maximum_pdu_size = settings.dicom_max_pdu_bytes
        entity.acse_timeout = ASSOCIATE_WAIT_S
        entity.network_timeout = entity.dimse_timeout = settings.dicom_idle_s
        entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            assert context.abstract_syntax is not None  # noqa: S101 - a list of SOP classes
            entity.add_supported_context(context.abstract_syntax, _transfer_syntaxes())
        bounds = Bounds(
            peers=self._peers,
            connections=2 * settings.dicom_max_associations,
            pdu_bytes=settings.dicom_max_pdu_bytes,
            object_bytes=settings.max_file_bytes,
            silence_s=settings.dicom_idle_s,
            folder=workspace,
            free_bytes=settings.min_free_disk_bytes,
        )
        self._server = Server(
            entity,
            (settings.dicom_host, settings.dicom_port),
            ssl_context=_tls(settings),
            handlers=[
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_REJECTED, self._rejected),
                (evt.EVT_C_ECHO, self._echo),
                (evt.EVT_C_STORE, self._store),
                (evt.EVT_CONN_CLOSE, self._closed),
            ],
            bounds=bounds,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="accept", daemon=True)
        self._thread.start()
        log.info(
            "listening",
            extra={
                "ae_title": settings.dicom_ae_title,
                "port": settings.dicom_port,
                "tls": settings.dicom_tls_certificate is not None,
                "peers": len(self._peers),
            },
        )

    def tick(self) -> None:
        """To be called every second or so: keeps the workspace alive and clean."""
        self._server.forget_ended()
        os.utime(self._workspace)  # an old workspace is swept, as one that a killed process left
        oldest = time.time() - 2 * self._settings.dicom_idle_s - 60
        for path in self._workspace.iterdir():
            if path.stat().st_mtime < oldest:  # of an association that broke off
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Takes no more connections, lets associations end for a few seconds, then aborts them."""
        entity = self._server.ae
        self._server.shutdown()
        deadline = time.monotonic() + LAST_ASSOCIATIONS_S
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self._server.active_associations:
            association.abort()
        entity.shutdown()
        log.info("listener_ended")

    def _requested(self, event: Event) -> None:
        """Refuses a caller that is not on the list; AE title and address count together."""
        association = event.assoc
        title = _titles(association)[0]
        address = association.requestor.address
        if not known_peer(self._peers, title, address):
            refusal, reason = _CALLING_AE_UNKNOWN, "peer_not_allowed"
        elif shutil.disk_usage(self._workspace).free < self._settings.min_free_disk_bytes:
            refusal, reason = _CONGESTED, "disk_full"
        else:
            return
        log.warning("association_refused", extra={"reason": reason, "calling_ae": title, "address": address})
        association.acse.send_reject(*refusal)
        association.kill()

    def _rejected(self, event: Event) -> None:
        """What pynetdicom refuses by itself."""
        calling, called = _titles(event.assoc)
        wrong_title = called != self._settings.dicom_ae_title
        log.warning(
            "association_refused",
            extra={
                "reason": "called_ae_unknown" if wrong_title else "too_many_associations",
                "calling_ae": calling,
                "called_ae": called,
                "expected_ae": self._settings.dicom_ae_title,
                "address": event.assoc.requestor.address,
            },
        )

    def _echo(self, event: Event) -> int:
        traffic = self._traffic(event)
        traffic.object_bytes = 0
        log.info("echo", extra={"calling_ae": event.assoc.requestor.ae_title, "address": traffic.address})
        return SUCCESS

    def _store(self, event: Event) -> Dataset:
        traffic = self._traffic(event)
        traffic.object_bytes = 0
        request = event.request
        assert isinstance(request, C_STORE)  # noqa: S101 - of this event
        title = event.assoc.requestor.ae_title
        try:
            answer = self._instances.take(
                event.dataset_path, title, str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
            )
        except Exception as error:  # the edge of this process: pynetdicom would answer too, and say nothing to us
            facts = {"error": type(error).__name__, "calling_ae": title}
            log.error("instance_failed", extra=facts, exc_info=error)
            answer = Answer(PROCESSING_FAILURE, "an error that nobody expected; see the listener's log")
        response = Dataset()
        response.Status = answer.status
        if answer.status == SUCCESS:
            traffic.stored += 1
        else:
            traffic.refused += 1
            response.ErrorComment = answer.comment[:COMMENT_LENGTH]
            log.log(
                logging.ERROR if answer.status == OUT_OF_RESOURCES else logging.WARNING,
                "instance_refused",
                extra={
                    "status": f"0x{answer.status:04X}",
                    "reason": answer.comment,
                    "calling_ae": title,
                    "address": traffic.address,
                    "message_id": request.MessageID,
                },
            )
        return response

    def _closed(self, event: Event) -> None:
        traffic = self._server.traffic.pop(event.assoc, None)
        if traffic is not None and (traffic.stored or traffic.refused):
            log.info(
                "association_ended",
                extra={
                    "calling_ae": event.assoc.requestor.ae_title,
                    "address": traffic.address,
                    "stored": traffic.stored,
                    "refused": traffic.refused,
                    "size_bytes": traffic.size_bytes,
                },
            )

    def _traffic(self, event: Event) -> Traffic:
        return self._server.traffic.setdefault(event.assoc, Traffic(event.assoc.requestor.address))


def _transfer_syntaxes() -> list[str]:
    """All that intake reads, the best first, for of those that a peer offers in one context the first is taken.

    Explicit VR keeps the types of private elements; a peer that would compress with loss is not asked to.
    """
    return sorted(TRANSFER_SYNTAXES, key=lambda uid: (uid in _LOSSY, uid != ExplicitVRLittleEndian, uid))


def _titles(association: Association) -> tuple[str, str]:
    """(calling, called) AE title of a request, before it is accepted."""
    request = association.requestor.primitive
    if request is None:
        return "", ""
    return str(request.calling_ae_title or "").strip(), str(request.called_ae_title or "").strip()


def run(settings: Settings, ended: threading.Event) -> None:
    """Listens until `ended` is set. Raises what `Listener` does."""
    database = Database(settings.resolved_database_url)
    blobs = BlobStore(settings.resolved_blob_url, min_free_bytes=settings.min_free_disk_bytes)
    try:
        with blobs.workspace() as workspace:
            receive_into(workspace)
            try:
                with database.read() as session:
                    receptions.service_user(session, settings.dicom_user)
            except UnknownSender as unknown:
                # On a new system nobody could make it yet; until then every instance is refused, with this reason.
                log.error("service_account_unusable", extra={"detail": str(unknown)})
            listener = Listener(settings, database, blobs, workspace)
            try:
                while not ended.wait(TICK_S):
                    _attempt(listener.tick)
            finally:
                listener.close()
    finally:
        database.close()


def receive_into(workspace: Path) -> None:
    """Sets pynetdicom up for this process: objects go into files in this folder, and its own log lines go nowhere."""
    import tempfile

    tempfile.tempdir = str(workspace)  # where pynetdicom opens a file for each object
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def _attempt(step: Callable[[], None]) -> None:
    try:
        step()
    except OSError as error:  # a file that went while we looked, a disk that failed for a moment
        log.warning("tick_failed", extra={"error": type(error).__name__})


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Server side TLS, 1.2 or newer (PS3.15 B.12, BCP 195); with authorities, peers must show a certificate."""
    if settings.dicom_tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.dicom_tls_certificate, settings.dicom_tls_key)
    if settings.dicom_tls_ca is not None:
        context.load_verify_locations(settings.dicom_tls_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
