"""The key that signs cookies, and the logs' form."""

import json
import logging
import stat
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.logs import JsonFormatter, TextFormatter
from config.settings import Settings, SettingsError
from web.secret_key import secret_key


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(var_dir=tmp_path)
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(secret_key(settings))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1
    assert len(keys[0]) >= 32
    path = tmp_path / "secrets" / "session.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["session.key"]
    assert secret_key(Settings(var_dir=tmp_path)) == keys[0]


def test_a_key_that_others_may_read_or_guess_is_refused(tmp_path: Path) -> None:
    settings = Settings(var_dir=tmp_path)
    secret_key(settings)
    path = tmp_path / "secrets" / "session.key"
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="mode 644; expected 600"):
        secret_key(settings)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(SettingsError, match="holds 5 bytes; expected at least 32"):
        secret_key(settings)


def test_the_settings_key_wins(tmp_path: Path) -> None:
    assert secret_key(Settings(var_dir=tmp_path, secret_key=SecretStr("k" * 40))) == b"k" * 40
    assert list(tmp_path.iterdir()) == []


def test_a_log_line_holds_the_type_of_an_error_and_not_its_text() -> None:
    try:
        raise ValueError("ZZLEAKZZ")
    except ValueError as error:
        record = logging.makeLogRecord(
            {
                "name": "web",
                "levelname": "ERROR",
                "msg": "unexpected_error",
                "exc_info": (type(error), error, error.__traceback__),
                "error": type(error).__name__,
                "request_id": "abc",
            }
        )
    line = JsonFormatter().format(record)
    document = json.loads(line)
    assert (document["event"], document["error"], document["request_id"]) == ("unexpected_error", "ValueError", "abc")
    assert document["places"][-1].startswith("test_secret_key.py:")
    assert "ZZLEAKZZ" not in line
    assert "unexpected_error" in TextFormatter().format(record)
