"""DICOM over TLS to dcmtk's storescp: trusted by the named authority only, with a certificate of our own."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from db.exchange import PeerKind
from exchange import dimse
from exchange.peering import PeerRefused, Route
from tests.archives import need, store_scp


def test_a_peer_is_trusted_by_the_named_authority_only(tmp_path: Path) -> None:
    need("openssl", "openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = "subjectAltName=IP:127.0.0.1"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=archive"]
    command = [*made, "-addext", names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    with store_scp(tmp_path, "--enable-tls", str(key), str(certificate), "+cf", str(certificate)) as archive:
        route = Route(
            kind=PeerKind.DIMSE,
            our_title="NEUROSIGHT",
            their_title="STORESCP",
            host="127.0.0.1",
            port=archive.port,
            tls=True,
            url="",
            timeout_s=10.0,
            ca_file=certificate,
            certificate_file=certificate,
            key_file=key,
        )
        assert dimse.echo(route) == "0x0000"
        with pytest.raises(PeerRefused, match="certificate_not_trusted"):
            dimse.echo(replace(route, ca_file=None))
        with pytest.raises(PeerRefused, match="certificate_unusable"):
            dimse.echo(replace(route, ca_file=key))
