"""The world of the web tests: an application on either database, four people, the tiny model in service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from db.states import Role
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
