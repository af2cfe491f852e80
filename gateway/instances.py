"""One received DICOM instance: into the blob store, into a row, and only then acknowledged.

Owns the order of these steps and the status that each failure is answered with (PS3.4 table B.2-1). The file goes into
the store as it came, neither decoded nor encoded again; its name there is its digest.

Refuses what it cannot assign to a study, and nothing else: what an object is good for, intake says in the receipt.
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from config.settings import Settings
from db.blobs import BlobStore, StoreFull
from db.queries import receptions
from db.queries.receptions import WAY_DICOM, Sender, UnknownSender
from db.queries.submissions import Sent
from db.session import Database
from imaging.dicom_uids import NoUids, read_uids

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
NOT_AUTHORISED = 0x0124
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
NOT_UNDERSTOOD = 0xC000

READ_BYTES = 1024 * 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What the sender is told.

    Attributes:
        status: Of the C-STORE response.
        comment: Why, in English; cut to 64 characters when it is sent as Error Comment.
    """

    status: int
    comment: str = ""


class Instances:
    """Takes instances in; to be used from any thread.

    Args:
        settings: The account, limits.
        database: The store of rows.
        blobs: The store of bytes.
    """

    def __init__(self, settings: Settings, database: Database, blobs: BlobStore) -> None:
        self._settings, self._database, self._blobs = settings, database, blobs

    def take(self, path: Path, ae_title: str, sop_class: str, sop_instance: str) -> Answer:
        """Stores one instance; durable when the answer is SUCCESS.

        Args:
            path: The file with its meta group, on the blob store's disk; moved away when it is new.
            ae_title: Who sends.
            sop_class: As the request says.
            sop_instance: As the request says.
        """
        try:
            uids = read_uids(path)
        except NoUids as missing:
            return Answer(NOT_UNDERSTOOD, str(missing))
        if (uids.sop_class, uids.sop_instance) != (sop_class, sop_instance):
            return Answer(DOES_NOT_MATCH, "SOP class or instance UID differs between request and data set")
        size_bytes = path.stat().st_size
        if size_bytes > self._settings.max_file_bytes:
            return Answer(
                NOT_UNDERSTOOD, f"{size_bytes} bytes received; at most {self._settings.max_file_bytes} accepted"
            )
        try:
            self._blobs.require_room(0)
            digest = _digest(path)
            self._blobs.adopt(path, digest)
            with self._database.write() as session:
                owner = receptions.service_user(session, self._settings.dicom_user)
                sender = Sender(WAY_DICOM, ae_title, f"DICOM {ae_title}", owner.id)
                sent = Sent(f"{uids.sop_instance}.dcm", digest, size_bytes)
                receptions.keep(session, sender, uids.study, [sent], self._settings)
        except UnknownSender as unknown:
            log.error("service_account_unusable", extra={"detail": str(unknown)})
            return Answer(NOT_AUTHORISED, "the receiving account is not usable; tell the administrator")
        except StoreFull:
            log.error("disk_full")
            return Answer(OUT_OF_RESOURCES, "the disk is full; send again later")
        except OSError as error:
            log.error("store_failed", extra={"error": type(error).__name__, "number": error.errno})
            return Answer(OUT_OF_RESOURCES, "the file could not be stored; send again later")
        except DBAPIError as error:
            log.error("database_failed", extra={"error": type(error.orig).__name__})
            return Answer(OUT_OF_RESOURCES, "the database does not answer; send again later")
        return Answer(SUCCESS)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
