"""What one web application works with: its settings, database, blob store and doorbell.

Owns building them for one app and finding them again in a request. Refuses to be global: two apps in one process have
two of everything.
"""

import ipaddress
from dataclasses import dataclass
from functools import cached_property

from flask import Flask, current_app, request

from config.settings import Settings
from db.blobs import BlobStore
from db.doorbell import Doorbell
from db.session import Database
from imaging.decoders import Decoders
from imaging.from_settings import decoders_from
from web.denials import Denials

_KEY = "neurosight"


@dataclass
class Services:
    """The parts of one application."""

    settings: Settings
    database: Database
    blobs: BlobStore
    doorbell: Doorbell
    denials: Denials

    @cached_property
    def decoders(self) -> Decoders:
        """The processes in which files are decoded to be shown."""
        return decoders_from(self.settings)

    def close(self) -> None:
        """Closes all connections, and ends the decoders if there are any."""
        if "decoders" in self.__dict__:
            self.decoders.close()
        self.denials.close()
        self.doorbell.close()
        self.database.close()


def install(app: Flask, settings: Settings) -> Services:
    """Builds the parts of an app and remembers them in it."""
    database = Database(settings.resolved_database_url)
    parts = Services(
        settings=settings,
        database=database,
        blobs=BlobStore(settings.resolved_blob_url, min_free_bytes=settings.min_free_disk_bytes),
        doorbell=Doorbell(settings),
        denials=Denials(database),
    )
    app.extensions[_KEY] = parts
    return parts


def services(app: Flask | None = None) -> Services:
    """The parts of this app, or of the app of the current request."""
    parts = (app or current_app).extensions[_KEY]
    assert isinstance(parts, Services)  # noqa: S101 - for the type checker
    return parts


def remote_address() -> str:
    """The client's address, as far as the settings trust forwarded headers; empty when unknown."""
    return request.remote_addr or ""


def from_this_machine() -> bool:
    """Whether the request came over the loopback interface and through no proxy."""
    if services().settings.proxy_count or any(name in request.headers for name in ("X-Forwarded-For", "Forwarded")):
        return False
    try:
        return ipaddress.ip_address(remote_address()).is_loopback
    except ValueError:
        return False
