"""The world of the gateway tests: one database, the account of a scanner, files to send."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import UID

from config.settings import Settings
from db.session import Database
from db.states import Role
from db.users import User
from tests.unit.imaging.dicom_files import mr, ramp

MARK = "MARKED^NAME"


def make_scanner(database: Database, name: str = "scanner") -> str:
    """Makes the account that owns what devices send."""
    with database.write() as session:
        session.add(User(username=name, role=Role.SUBMITTER, password_hash="none"))
    return name


@pytest.fixture
def scanner(database: Database) -> str:
    """The account that owns what devices send."""
    return make_scanner(database)


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., list[Path]]:
    """Writes the files of a study: `make_study(number, count)`."""

    def make(number: int, count: int, **attributes: Any) -> list[Path]:
        folder = tmp_path / f"study-{number}"
        folder.mkdir(exist_ok=True)
        paths = []
        for place in range(count):
            uid = f"2.25.{number}.{place + 1}"
            pixels = np.asarray(ramp(16, 16) + place, dtype=np.uint16)
            said: dict[str, Any] = {
                "StudyInstanceUID": f"2.25.{number}",
                "SeriesInstanceUID": f"2.25.{number}.0",
                "SOPInstanceUID": uid,
                "PatientName": MARK,
            }
            file = mr(pixels, **{**said, **attributes})
            file.file_meta.MediaStorageSOPInstanceUID = UID(uid)
            path = folder / f"{place:05}.dcm"
            file.save_as(path)
            paths.append(path)
        return paths

    return make


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with a short quiet time, for housekeeping in this process."""
    return settings.model_copy(update={"study_quiet_s": 1.0})
