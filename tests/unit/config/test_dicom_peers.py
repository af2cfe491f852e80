"""The allow-list of the DICOM listener, and the settings around it."""

from pathlib import Path

import pytest

from config.dicom_peers import known_address, known_peer, parse_peers
from config.settings import SettingsError, load_settings


def test_title_and_address_count_together() -> None:
    peers = parse_peers(" MR1@10.0.0.5, PACS 2@10.1.0.0/16,\nV6@fd00::/8 ,")
    assert [peer.ae_title for peer in peers] == ["MR1", "PACS 2", "V6"]
    assert known_peer(peers, "MR1", "10.0.0.5")
    assert known_peer(peers, "MR1", "::ffff:10.0.0.5")
    assert known_peer(peers, "V6", "fd00::1%eth0")
    for title, address in (("MR1", "10.1.0.5"), ("PACS 2", "10.0.0.5"), ("mr1", "10.0.0.5"), ("MR1", "nonsense")):
        assert not known_peer(peers, title, address), (title, address)
    assert known_address(peers, "10.1.2.3")
    assert not known_address(peers, "10.2.0.1")


def test_every_wrong_entry_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"received MR1, @10\.0\.0\.1, A@host, A@10\.0\.0\.1/8, .*; expected AETITLE@addr"
    ):
        parse_peers("MR1, @10.0.0.1, OK@10.0.0.2, A@host, A@10.0.0.1/8, SEVENTEENLETTERSX@10.0.0.1")


def test_a_listener_is_off_by_default_and_needs_all_it_takes(tmp_path: Path) -> None:
    settings = load_settings(var_dir=tmp_path, watch_dir="", dicom_tls_key="")
    assert (settings.dicom_port, settings.watch_dir, settings.dicom_tls_key) == (0, None, None)
    wrong = {
        "dicom_port": 11112,
        "dicom_allowed_peers": "MR1",
        "dicom_ae_title": "MUCH TOO LONG A TITLE",
        "dicom_tls_key": tmp_path / "key",
        "watch_dir": tmp_path,
    }
    with pytest.raises(SettingsError, match="not usable") as caught:
        load_settings(var_dir=tmp_path, **wrong)
    for said in (
        "NEUROSIGHT_DICOM_ALLOWED_PEERS: received MR1;",
        "NEUROSIGHT_DICOM_AE_TITLE: received 'MUCH",
        "NEUROSIGHT_DICOM_USER must",
        "NEUROSIGHT_DICOM_TLS_CERTIFICATE and",
        "NEUROSIGHT_WATCH_USER must",
    ):
        assert said in str(caught.value), said
    with pytest.raises(SettingsError, match="DICOM_ALLOWED_PEERS must name who may send"):
        load_settings(var_dir=tmp_path, dicom_port=11112, dicom_user="scanner")
