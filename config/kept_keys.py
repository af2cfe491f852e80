"""Secrets that an installation makes for itself: random, written once, kept in `var/secrets`.

Owns making and reading their files. Refuses a file that others may read.
"""

import os
import secrets
import stat
from pathlib import Path

from config.settings import SettingsError


def kept_key(var_dir: Path, name: str) -> bytes:
    """The key of this name, made now if there is none.

    Args:
        var_dir: The setting.
        name: `session`, `pseudonym`.

    Raises:
        SettingsError: When the key file is readable by others, or too short.
    """
    folder = var_dir / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.key"
    _make(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SettingsError(f"{path} has the mode {mode:o}; expected 600: run `chmod 600` on it")
    key = path.read_bytes()
    if len(key) < 32:
        raise SettingsError(f"{path} holds {len(key)} bytes; expected at least 32: remove it and start again")
    return key


def _make(path: Path) -> None:
    """Makes the file whole or not at all; of several processes that start together, one wins."""
    if path.exists():
        return
    new = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(32).encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(new, path)
        except FileExistsError:
            return
    finally:
        new.unlink(missing_ok=True)
