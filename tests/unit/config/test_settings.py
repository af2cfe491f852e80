"""The settings: sane without any, strict where it matters, and clear about what is wrong."""

import os
from pathlib import Path

import pytest

from config.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("NEUROSIGHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NEUROSIGHT_VAR_DIR", str(tmp_path))


def test_one_machine_needs_no_setting_at_all(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.resolved_database_url == f"sqlite:///{tmp_path / 'neurosight.db'}"
    assert settings.resolved_blob_url == f"file://{tmp_path / 'blobs'}"


def test_environment_wins_over_the_launchers_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "neurosight.env").write_text("NEUROSIGHT_WEB_PORT=9001\nNEUROSIGHT_CHUNK_SLICES=16\n")
    monkeypatch.setenv("NEUROSIGHT_WEB_PORT", "9002")
    settings = load_settings()
    assert (settings.web_port, settings.chunk_slices) == (9002, 16)


def test_every_wrong_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROSIGHT_WEB_PORT", "99999")
    monkeypatch.setenv("NEUROSIGHT_ENGINE", "magic")
    with pytest.raises(SettingsError, match=r"(?s)NEUROSIGHT_WEB_PORT.*65535.*NEUROSIGHT_ENGINE.*'openvino'"):
        load_settings()


def test_production_refuses_a_short_secret_and_open_cookies() -> None:
    with pytest.raises(SettingsError, match=r"SECRET_KEY must hold at least 32.*SECURE_COOKIES must be true"):
        load_settings(environment="production", secret_key="short")


def test_a_secret_is_never_printed() -> None:
    settings = load_settings(secret_key="x" * 40)
    assert "x" * 40 not in repr(settings)
    with pytest.raises(SettingsError, match="SECRET_KEY") as caught:
        load_settings(environment="production", secret_key="hush-hush")
    assert "hush-hush" not in str(caught.value)


def test_the_broker_may_not_redeliver_before_the_lease_ends() -> None:
    with pytest.raises(SettingsError, match=r"VISIBILITY_TIMEOUT_S is 30; it must be at least twice"):
        load_settings(visibility_timeout_s=30, lease_s=60)


def test_settings_do_not_change_after_start() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.web_port = 1  # type: ignore[misc] # what is tested
