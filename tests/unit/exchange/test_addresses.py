"""What an admin and a submitter type about archives: read, or refused with what was expected."""

from datetime import datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.settings import Settings
from db.exchange import Peer, PeerKind
from db.queries.refusals import ExchangeRefused
from exchange.archive import parse_numbers, usable
from exchange.dicomweb_archive import first_part
from exchange.off_peak import seconds_until
from exchange.peering import PeerRefused, Route, parse_dimse, parse_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ARCHIVE@pacs.example:11112", ("ARCHIVE", "pacs.example", 11112)),
        (" MAIN PACS@10.0.0.5 ", ("MAIN PACS", "10.0.0.5", 104)),
        ("A@[::1]:104", ("A", "::1", 104)),
    ],
)
def test_an_address_of_dicom(text: str, expected: tuple[str, str, int]) -> None:
    assert parse_dimse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pacs:104",
        "@pacs:104",
        "SEVENTEENLETTERSX@pacs:104",
        "A\\B@pacs:104",
        "A@pa cs:104",
        "A@pacs:0",
        "A@pacs:70000",
    ],
)
def test_what_is_no_address_of_dicom(text: str) -> None:
    with pytest.raises(ExchangeRefused, match=r"expected AETITLE@host:port"):
        parse_dimse(text)


def test_the_root_of_a_dicomweb_service() -> None:
    assert parse_url(" https://pacs.example/dicom-web/ ") == "https://pacs.example/dicom-web"
    for text in (
        "",
        "pacs.example",
        "ftp://pacs",
        "https://u:p@pacs/x",
        "https://pacs/x?y=1",
        "http://pa cs",
        "http://x:0",
    ):
        with pytest.raises(ExchangeRefused, match="expected the root of a DICOMweb service"):
            parse_url(text)


def test_a_list_of_accession_numbers() -> None:
    assert parse_numbers("A1\r\n A2 ,A3;A1\n\n") == ["A1", "A2", "A3"]
    for text, sentence in (
        (" \n", "Enter at least one"),
        ("\n".join(map(str, range(501))), "Received 501"),
        ("A1\nB*", "Number 2 of the list"),
        ("A\\B", "without wildcards"),
        ("X" * 17, "at most 16 characters"),
    ):
        with pytest.raises(ExchangeRefused, match=sentence):
            parse_numbers(text)


def test_a_uid_of_a_peer_is_digits_and_dots() -> None:
    assert usable(["1.2.840", "2.25.0"])
    for uid in ("", "../1", "1..2", "1.2/", "1" * 65, None):
        assert not usable([uid]), uid


def test_a_secret_stands_in_the_settings_alone(tmp_path: Path) -> None:
    settings = Settings(var_dir=tmp_path, peer_secrets={"pacs": SecretStr("user:hidden")})
    peer = Peer(name="x", kind=PeerKind.DICOMWEB, url="https://pacs/", secret_name="pacs")
    route = Route.to(peer, settings)
    assert (route.secret, route.url) == ("user:hidden", "https://pacs")
    assert "hidden" not in repr(route)
    peer.secret_name = "other"
    with pytest.raises(PeerRefused, match="secret_missing"):
        Route.to(peer, settings)


def test_the_first_part_of_an_answer() -> None:
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n\x00DICM\r\n\r\n\x01\r\n--b--"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    assert first_part(body, kind) == b"\x00DICM\r\n\r\n\x01"
    assert first_part(body, "application/dicom") is None
    assert first_part(body[:-6], kind) is None, "broken off"


def test_off_peak_hours_may_go_over_midnight(tmp_path: Path) -> None:
    night = Settings(var_dir=tmp_path, off_peak_from_hour=20, off_peak_to_hour=6)
    waits = {hour: seconds_until(datetime(2026, 1, 2, hour, 30), night) for hour in (5, 6, 19, 20, 23)}
    assert waits == {5: 0.0, 6: 13.5 * 3600, 19: 1800.0, 20: 0.0, 23: 0.0}
    noon = Settings(var_dir=tmp_path, off_peak_from_hour=12, off_peak_to_hour=14)
    assert seconds_until(datetime(2026, 1, 2, 14, 0), noon) == 22 * 3600.0
    always = Settings(var_dir=tmp_path, off_peak_from_hour=7, off_peak_to_hour=7)
    assert seconds_until(datetime(2026, 1, 2, 14, 0), always) == 0.0
