"""Draws the passwords that `docker-compose.yml` asks for: `make secrets`.

Owns `docker/secrets.env`, readable by its owner alone. Standard library only, for hosts that have nothing but
containers. Refuses to overwrite: a database keeps the password that it was made with.
"""

import os
import secrets
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "docker" / "secrets.env"
NAMES = (
    "NEUROSIGHT_SECRET_KEY",
    "NEUROSIGHT_PSEUDONYM_KEY",
    "POSTGRES_PASSWORD",
    "BROKER_PASSWORD",
    "BLOB_ACCESS_KEY",
    "BLOB_SECRET_KEY",
)


def render() -> str:
    """The file's text: hexadecimal digits only, so that nothing needs quoting in a URL."""
    lines = ["# Secrets of this installation. Keep a copy in a safe place; never commit this file."]
    lines += [f"{name}={secrets.token_hex(10 if name == 'BLOB_ACCESS_KEY' else 32)}" for name in NAMES]
    lines.append(f"FLOWER_BASIC_AUTH=admin:{secrets.token_hex(16)}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes the file unless it is there."""
    try:
        descriptor = os.open(TARGET, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{TARGET} is there already; not touched. Delete it only together with the volumes.", file=sys.stderr)
        return 1
    with os.fdopen(descriptor, "w") as file:
        file.write(render())
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
