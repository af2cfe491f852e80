"""A peer as the network ways see it: where it is, how to prove who we are, and what it may answer.

Owns the plain values that DIMSE and DICOMweb share, the two faults that an exchange with a peer can have, and the
reading of an address that an admin typed. Refuses to open a connection.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from config.settings import Settings
from db.exchange import Peer, PeerKind
from db.queries.refusals import ExchangeRefused

DEFAULT_PORT: Final = 104
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_TITLE: Final = re.compile(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?")
"""PS3.5 6.2, AE: at most 16 characters of the default repertoire, no backslash; spaces around it do not count."""


class PeerUnavailable(Exception):
    """The peer cannot be reached, or has no room or time now: worth another try later.

    Attributes:
        code: `peer_unreachable`, `peer_busy`, `peer_full` or `peer_silent`.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class PeerRefused(Exception):
    """The peer does not want us: no repetition helps until somebody has changed a setting on one of the sides.

    Attributes:
        code: Key of the sentence in `web.sentences`.
        detail: What it said, for the sentence.
    """

    def __init__(self, code: str, detail: dict[str, object] | None = None) -> None:
        self.code, self.detail = code, dict(detail or {})
        super().__init__(f"{code}: {self.detail}" if detail else code)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer said to one object.

    Attributes:
        stored: Whether it has it now.
        status: `0x0000`, or `HTTP 415`.
        comment: In the peer's words; may be empty.
    """

    stored: bool
    status: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Everything that is needed to speak with one peer.

    Attributes:
        secret: `user:password`, or a bearer token (which holds no colon: RFC 6750 2.1); empty: none.
        timeout_s: How long it may be silent, seconds.
    """

    kind: PeerKind
    our_title: str
    their_title: str
    host: str
    port: int
    tls: bool
    url: str
    timeout_s: float
    secret: str = field(default="", repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @classmethod
    def to(cls, peer: Peer, settings: Settings) -> Self:
        """The route to a peer under these settings.

        Raises:
            PeerRefused: `secret_missing` when the peer names a secret that the settings do not hold.
        """
        secret = ""
        if peer.secret_name:
            if peer.secret_name not in settings.peer_secrets:
                raise PeerRefused("secret_missing", {"secret": peer.secret_name})
            secret = settings.peer_secrets[peer.secret_name].get_secret_value()
        return cls(
            kind=PeerKind(peer.kind),
            our_title=settings.dicom_ae_title,
            their_title=peer.ae_title,
            host=peer.host,
            port=peer.port or DEFAULT_PORT,
            tls=peer.tls,
            url=peer.url.rstrip("/"),
            timeout_s=settings.peer_timeout_s,
            secret=secret,
            ca_file=settings.peer_ca_file,
            certificate_file=settings.peer_certificate_file,
            key_file=settings.peer_key_file,
        )

    def tls_context(self) -> ssl.SSLContext:
        """Checks the peer's certificate against `peer_ca_file` or the system's; shows ours when there is one.

        Raises:
            PeerRefused: `certificate_unusable`: a file of the settings cannot be read.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate_file:
                context.load_cert_chain(self.certificate_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise PeerRefused("certificate_unusable", {"says": type(error).__name__}) from error
        return context


def parse_dimse(text: str) -> tuple[str, str, int]:
    """Reads `AETITLE@host:port`.

    Returns:
        (AE title, host, port); the port is 104 when none is named.

    Raises:
        ExchangeRefused: `address_malformed`.
    """
    title, at, place = text.strip().rpartition("@")
    host, colon, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
    if not colon:
        host, port = host or port, str(DEFAULT_PORT)
    if not at or not _TITLE.fullmatch(title) or not _HOST.fullmatch(host) or not port.isdecimal():
        raise _malformed(text)
    number = int(port[:6])
    if not 1 <= number <= 65535:
        raise _malformed(text)
    return title, host.strip("[]"), number


def parse_url(text: str) -> str:
    """Reads the root address of a DICOMweb service.

    Raises:
        ExchangeRefused: `url_malformed`.
    """
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    plain = all(33 <= ord(letter) < 127 for letter in url)
    usable = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
    if not plain or not usable or parts.username or parts.password or port == 0 or len(url) > 500:
        raise ExchangeRefused(
            "url_malformed",
            "Received %(received)s; expected the root of a DICOMweb service, such as https://pacs.example/dicom-web, "
            "without a user name or password in it.",
            {"received": text[:100] or "–"},
            status=422,
        )
    return url


def _malformed(text: str) -> ExchangeRefused:
    return ExchangeRefused(
        "address_malformed",
        "Received %(received)s; expected AETITLE@host:port, such as ARCHIVE@pacs.example:104, with an AE title of at "
        "most 16 characters.",
        {"received": text[:100] or "–"},
        status=422,
    )
