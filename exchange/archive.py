"""What is asked of an archive when studies are fetched, whatever its protocol; and what an accession number may be.

Owns the values and the protocol that `exchange.dimse_archive` and `exchange.dicomweb_archive` keep, so that the worker
knows one way. Refuses wildcards in an accession number: a star would fetch the whole archive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from db.exchange import PeerKind
from db.queries.refusals import ExchangeRefused
from exchange.peering import Route

MAX_NUMBERS: Final = 500
"""Accession numbers of one list."""
NUMBER_LENGTH: Final = 16
"""PS3.5 6.2, SH."""
UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
"""Digits and dots: what a peer says becomes part of an address and of a name in the receipt."""
_UNUSABLE: Final = re.compile(r"[*?\\\x00-\x1f\x7f]")

Keep = Callable[[str, bytes], None]
"""Takes one DICOM file as it came, with the SOP Instance UID under which it was asked for."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An instance that the archive says it has.

    Attributes:
        sop_class_uid: Empty when the archive does not say.
    """

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str = ""


class Archive(Protocol):
    """An archive that can be searched and fetched from."""

    def studies(self, accession_number: str) -> list[str]:
        """Study Instance UIDs under an accession number."""
        ...

    def instances(self, study_instance_uid: str) -> list[Listed]:
        """Every instance of a study but those that we sent there ourselves."""
        ...

    def fetch(self, study_instance_uid: str, wanted: Sequence[Listed], keep: Keep) -> None:
        """Fetches instances of one series; those that do not come are simply not kept."""
        ...


def open_archive(route: Route) -> AbstractContextManager[Archive]:
    """A way to the peer by its protocol; the library for it is loaded now."""
    if route.kind == PeerKind.DICOMWEB:
        from exchange.dicomweb_archive import DicomwebArchive

        return DicomwebArchive(route)
    from exchange.dimse_archive import DimseArchive

    return DimseArchive(route)


def usable(uids: Sequence[object]) -> bool:
    """Whether all of these are UIDs."""
    return all(isinstance(uid, str) and len(uid) <= 64 and UID.fullmatch(uid) for uid in uids)


def parse_numbers(text: str) -> list[str]:
    """Reads a list of accession numbers, one a line, or with commas or semicolons between them.

    Returns:
        The numbers, each once, in the order given.

    Raises:
        ExchangeRefused: `no_numbers`, `too_many_numbers` or `number_unusable`.
    """
    found = list(dict.fromkeys(part.strip() for part in re.split(r"[\r\n,;\t]+", text) if part.strip()))
    if not found:
        raise ExchangeRefused("no_numbers", "Enter at least one accession number, one a line.", status=422)
    if len(found) > MAX_NUMBERS:
        raise ExchangeRefused(
            "too_many_numbers",
            "Received %(received)s accession numbers; at most %(limit)s go into one list.",
            {"received": len(found), "limit": MAX_NUMBERS},
            status=422,
        )
    for place, number in enumerate(found, start=1):
        if len(number) > NUMBER_LENGTH or _UNUSABLE.search(number):
            raise ExchangeRefused(
                "number_unusable",
                "Number %(place)s of the list is no accession number: expected at most %(limit)s characters, without "
                "wildcards (* and ?) and backslashes.",
                {"place": place, "limit": NUMBER_LENGTH},
                status=422,
            )
    return found
