"""The world of the web tests: an application on either database, four people, the tiny model in service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from db.states import Role
from tests.archives import Orthanc
from tests.web_world import World
from tests.work_rig import models_folder, promote_tiny
from web import create_app


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    """An application, and ann and bob (submitters), clara (clinician), ada (admin)."""
    changed = settings.model_copy(
        update={"models_dir": models_folder(tmp_path / "models"), "retry_delay_s": 0.0, "upload_expiry_s": 3600}
    )
    promote_tiny(changed)
    made = World(create_app(changed), changed)
    for username, role in (
        ("ann", Role.SUBMITTER),
        ("bob", Role.SUBMITTER),
        ("clara", Role.CLINICIAN),
        ("ada", Role.ADMIN),
    ):
        made.add(username, role)
    yield made
    made.close()


@pytest.fixture
def site(sqlite_url: str, tmp_path: Path) -> Iterator[World]:
    """An application on SQLite for what is about networks and formats; ann, clara and ada, and secrets for archives."""
    settings = Settings(
        var_dir=tmp_path / "var",
        database_url=sqlite_url,
        models_dir=models_folder(tmp_path / "models"),
        retry_delay_s=0.0,
        peer_timeout_s=5.0,
        peer_secrets={"orthanc": Orthanc.SECRET, "wrong": "tester:wrong"},
    )
    promote_tiny(settings)
    made = World(create_app(settings), settings)
    for username, role in (("ann", Role.SUBMITTER), ("clara", Role.CLINICIAN), ("ada", Role.ADMIN)):
        made.add(username, role)
    yield made
    made.close()
