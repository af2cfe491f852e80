"""A site with something to look at: a finished study of real images, a mixed folder, a failed job, one of each page.

Owns the content that page tests need, put in by the rows and workers of the real way.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from config.settings import ROOT
from db.doorbell import Doorbell
from db.jobs import Job, JobStudy
from db.predictions import Prediction
from db.states import JobState, Role
from tests import training_world
from tests.dataset_rig import class_folders, register_folder, with_manifest
from tests.e2e.site import Site
from tests.work_rig import make_user, submit, wait_ended

EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class World:
    """Ids of what is there."""

    job: uuid.UUID
    mixed_job: uuid.UUID
    failed_job: uuid.UUID
    study: uuid.UUID
    prediction: uuid.UUID
    checkpoint: uuid.UUID
    trained: training_world.TrainingWorld
    dataset: uuid.UUID
    refused_dataset: uuid.UUID

    def addresses(self) -> dict[str, Role | None]:
        """Every page, and the least role that sees it; None: nobody is logged in."""
        return {
            "/login": None,
            "/submit": Role.SUBMITTER,
            "/jobs": Role.CLINICIAN,
            "/jobs?text=nothing+of+this+name": Role.CLINICIAN,
            f"/jobs/{self.job}": Role.CLINICIAN,
            f"/jobs/{self.mixed_job}": Role.CLINICIAN,
            f"/jobs/{self.failed_job}": Role.CLINICIAN,
            "/studies": Role.CLINICIAN,
            "/worklist": Role.CLINICIAN,
            "/worklist?state=all&order=newest": Role.CLINICIAN,
            f"/studies/{self.study}": Role.CLINICIAN,
            f"/studies/{self.study}/delete": Role.ADMIN,
            f"/predictions/{self.prediction}": Role.CLINICIAN,
            "/model": Role.SUBMITTER,
            "/checkpoints": Role.ADMIN,
            "/checkpoints?at=2001-01-01T00:00": Role.CLINICIAN,
            f"/checkpoints/{self.checkpoint}": Role.ADMIN,
            f"/checkpoints/{self.checkpoint}/promote": Role.ADMIN,
            f"/checkpoints/{self.checkpoint}/results": Role.ADMIN,
            f"/checkpoints/{self.checkpoint}/shadow": Role.ADMIN,
            "/checkpoints/import": Role.ADMIN,
            "/sweeps": Role.CLINICIAN,
            "/sweeps/new?file=thesis.yaml": Role.ADMIN,
            f"/sweeps/{self.trained.finished}": Role.ADMIN,
            f"/sweeps/{self.trained.running}": Role.ADMIN,
            f"/sweeps/{self.trained.refused}": Role.ADMIN,
            f"/runs/{self.trained.runs[0]}": Role.ADMIN,
            f"/runs/{self.trained.live_run}": Role.CLINICIAN,
            f"/runs/compare?run={self.trained.runs[0]}&run={self.trained.runs[1]}": Role.CLINICIAN,
            "/datasets": Role.CLINICIAN,
            "/datasets/new": Role.ADMIN,
            f"/datasets/{self.dataset}": Role.ADMIN,
            f"/datasets/{self.refused_dataset}": Role.ADMIN,
            "/help": Role.SUBMITTER,
            "/account": Role.SUBMITTER,
            "/password": Role.SUBMITTER,
            "/admin/users": Role.ADMIN,
            "/admin/audit": Role.ADMIN,
            "/admin/drift": Role.ADMIN,
            "/admin/agreement": Role.ADMIN,
        }


def files_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by the path that a browser would send."""
    return {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def populate(site: Site) -> World:
    """Submits the examples and waits until they are done."""
    doorbell = Doorbell(site.settings)
    user = make_user(site.database, Role.SUBMITTER)

    def send(files: dict[str, bytes], title: str) -> uuid.UUID:
        return submit(site.database, site.settings, files, user=user, doorbell=doorbell, title=title)

    jobs = [
        send(files_of(EXAMPLES / "one" / "dicom"), "Studi A"),
        send(files_of(EXAMPLES / "mixed"), "Studi B"),
        send({"notes/readme.txt": b"not an image"}, "Studi C"),
    ]
    states = wait_ended(site.database, jobs, 120)
    doorbell.close()
    assert states[0] == JobState.SUCCEEDED, states
    assert states[2] == JobState.FAILED, states
    with site.database.read() as session:
        study = session.scalars(select(JobStudy.study_id).where(JobStudy.job_id == jobs[0])).first()
        prediction = session.scalars(select(Prediction.id).where(Prediction.job_id == jobs[0])).first()
        checkpoint = session.scalars(select(Job.checkpoint_id).where(Job.id == jobs[0])).one()
    assert study is not None
    assert checkpoint is not None
    assert prediction is not None
    trained = training_world.plant(site.database, most=9)
    return World(jobs[0], jobs[1], jobs[2], study, prediction, checkpoint, trained, *_datasets(site))


def _datasets(site: Site) -> tuple[uuid.UUID, uuid.UUID]:
    """A data set with copies, and a refused one; the registry worker's part is done in this process."""
    folder = site.settings.datasets_dir
    good = with_manifest(folder / "good", {"glioma": 12, "meningioma": 10})
    (good / "glioma" / "1.png").write_bytes((good / "meningioma" / "1.png").read_bytes())
    bad = class_folders(folder / "bad", {"gliomma": 10, "meningioma": 10})
    (bad / "meningioma" / "text.jpg").write_text("not a picture")
    return register_folder(site.database, site.settings, "good"), register_folder(site.database, site.settings, "bad")
