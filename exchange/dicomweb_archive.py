"""Searching an archive with QIDO-RS and fetching from it with WADO-RS (PS3.18 10.6, 10.4).

Owns the two searches and the retrieval of one instance a request, over one connection that is kept: so each instance
has its own answer, and a retrieval that was cut short goes on with the next one. Refuses answers that are larger than
a file may be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from exchange.archive import Keep, Listed, usable
from exchange.dicomweb import MAX_DOCUMENT_BYTES, Line, values
from exchange.peering import PeerRefused, PeerUnavailable, Route
from imaging.dicom_out import MARK

JSON: Final = {"Accept": "application/dicom+json"}
FILE: Final = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
PAGE: Final = 5000
"""Matches of one search; more are asked for with an offset."""
MAX_FILE_BYTES: Final = 512 * 1024 * 1024


class DicomwebArchive:
    """An archive over DICOMweb; use as a context manager.

    Args:
        route: The peer.
    """

    def __init__(self, route: Route) -> None:
        self._line = Line(route)

    def __enter__(self) -> Self:
        """Opens nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connection."""
        self._line.close()

    def studies(self, accession_number: str) -> list[str]:
        """Study Instance UIDs under an accession number. Raises PeerUnavailable, PeerRefused."""
        found = []
        for item in self._search(f"/studies?AccessionNumber={quote(accession_number, safe='')}"):
            # A service that ignores the key answers with everything: take only what was asked for.
            if _text(item, "00080050") == accession_number and usable([_text(item, "0020000D")]):
                found.append(_text(item, "0020000D"))
        return list(dict.fromkeys(found))

    def instances(self, study_instance_uid: str) -> list[Listed]:
        """Every instance of a study. Raises PeerUnavailable, PeerRefused."""
        found = []
        for item in self._search(f"/studies/{study_instance_uid}/instances?includefield=0008103E"):
            series, number, kind = (_text(item, tag) for tag in ("0020000E", "00080018", "00080016"))
            ours = _text(item, "0008103E") == MARK  # what we sent there ourselves
            if usable([series, number]) and not ours:
                found.append(Listed(series, number, kind if usable([kind]) else ""))
        return list(dict.fromkeys(found))

    def fetch(self, study_instance_uid: str, wanted: Sequence[Listed], keep: Keep) -> None:
        """WADO-RS of one instance after the other. Raises PeerUnavailable, PeerRefused, and whatever `keep` raises."""
        for item in wanted:
            path = f"/studies/{study_instance_uid}/series/{item.series_instance_uid}/instances/{item.sop_instance_uid}"
            try:
                response = self._line.request("GET", path, FILE)
            except PeerRefused as refused:
                if refused.code == "peer_no_service":
                    continue  # listed, and not there: the count says so
                raise
            with response:
                try:
                    body = response.read(MAX_FILE_BYTES + 1)
                except OSError as error:
                    self._line.close()
                    raise PeerUnavailable("peer_silent", f"broke off: {type(error).__name__}") from error
                kind = response.headers.get("Content-Type", "")
            if response.status != 200 or len(body) > MAX_FILE_BYTES:
                self._line.close()
                continue
            file = first_part(body, kind)
            if file is not None:
                keep(item.sop_instance_uid, file)

    def _search(self, address: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            with self._line.request("GET", f"{address}&limit={PAGE}&offset={len(found)}", JSON) as response:
                text, status = response.read(MAX_DOCUMENT_BYTES), response.status
            if status == 204 or not text:
                return found
            if status != 200:
                raise PeerRefused("search_refused", {"status": f"HTTP {status}"})
            try:
                page = [item for item in json.loads(text) if isinstance(item, dict)]
            except (ValueError, TypeError):
                raise PeerRefused("search_refused", {"status": "no DICOM JSON"}) from None
            found += page
            if len(page) < PAGE:
                return found


def first_part(body: bytes, content_type: str) -> bytes | None:
    """The first part of a multipart/related answer; None when it is no such answer."""
    boundary = next(
        (
            part.strip()[len("boundary=") :].strip('"')
            for part in content_type.split(";")
            if part.strip().lower().startswith("boundary=")
        ),
        "",
    )
    if not content_type.lower().startswith("multipart/related") or not boundary:
        return None
    mark = b"--" + boundary.encode("latin-1", "replace")
    start = body.find(mark)
    headers_end = body.find(b"\r\n\r\n", start)
    end = body.find(b"\r\n" + mark, headers_end)
    if min(start, headers_end, end) < 0:
        return None
    return body[headers_end + 4 : end]


def _text(item: dict[str, Any], tag: str) -> str:
    value = next(iter(values(item, tag)), "")
    return value.strip() if isinstance(value, str) else ""
