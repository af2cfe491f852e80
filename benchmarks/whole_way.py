"""The whole way of the worker: blob -> decode -> prepare -> infer -> commit.

Owns: a temporary installation (SQLite, local blobs), real studies sent as web sends them, and the real worker code in
this process. Timed is what the classify worker does: claiming chunks, reading blobs, decoding DICOM, preparing,
inference with Grad-CAM, encoding heatmaps, and committing each chunk. Taking the study in is not part of it.
"""

import io
import shutil
import struct
import uuid
import zlib
from pathlib import Path
from typing import Self

import pydicom
from sqlalchemy import func, select

from benchmarks.measure import Took, timed
from config.queues import QUEUE_BATCH, QUEUE_HOUSEKEEPING, QUEUE_INTAKE, QUEUE_INTERACTIVE
from config.settings import ROOT, load_settings
from db.migrate import upgrade
from db.predictions import Prediction
from tests.work_rig import context_for, submit
from worker.housekeeping import Housekeeper
from worker.work import turn

STUDIES = {
    "uncompressed DICOM": ROOT / "examples" / "two" / "dicom",
    "PNG": ROOT / "examples" / "three" / "pictures",
    "JPEG": ROOT / "examples" / "one" / "pictures",
    "JPEG DICOM": ROOT / "examples" / "one" / "dicom",
    "RLE DICOM": ROOT / "examples" / "four" / "dicom",
    "JPEG 2000 DICOM": ROOT / "examples" / "three" / "dicom",
}
"""How the example studies are stored. Decoding is a large part of the way, so each is measured by itself."""

UNCOMPRESSED = STUDIES["uncompressed DICOM"]


class WholeWay:
    """A worker with a promoted model and studies to do.

    Args:
        folder: Empty folder for its state.
        model: Artefact to serve.
        digest: Its digest.
        threads: Cores.
    """

    def __init__(self, folder: Path, model: Path, digest: str, threads: int) -> None:
        models = folder / "models"
        models.mkdir(parents=True)
        shutil.copyfile(model, models / model.name)
        (models / "DEFAULT").write_text(f"{digest}  {model.name}\n")
        self._settings = load_settings(
            var_dir=folder, models_dir=models, inference_threads=threads, engine="openvino", min_free_disk_bytes=0
        )
        upgrade(self._settings.resolved_database_url)
        with Housekeeper(self._settings) as housekeeper:
            housekeeper.register_models()
        self._intake = context_for(self._settings, (QUEUE_INTAKE, QUEUE_HOUSEKEEPING), "bench-intake")
        self._classify = context_for(self._settings, (QUEUE_INTERACTIVE, QUEUE_BATCH), "bench-classify")

    def run(self, examples: list[Path], slices: int) -> Took:
        """Sends a new study of so many slices, takes it in, and times its classification.

        Args:
            examples: Files to make the study of, over and over.
            slices: How many.
        """
        submit(self._classify.database, self._settings, new_study(examples, slices))
        while turn(self._intake):
            pass
        before = self._predictions()
        took = timed(self._turns)()
        done = self._predictions() - before
        if done != slices:
            raise RuntimeError(f"{done} of {slices} slices were classified; expected all. See the log above.")
        return took._replace(slices=done)

    def close(self) -> None:
        """Ends engines and connections."""
        self._intake.close()
        self._classify.close()

    def __enter__(self) -> Self:
        """The worker."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def _turns(self) -> int:
        done = 0
        while items := turn(self._classify):
            done += items
        return done

    def _predictions(self) -> int:
        with self._classify.database.read() as session:
            return session.scalar(select(func.count()).select_from(Prediction)) or 0


def new_study(examples: list[Path], slices: int) -> dict[str, bytes]:
    """Files that no other study has: real slices, as they were compressed, under new identifiers or with a new note."""
    patient = f"BENCH-{uuid.uuid4().hex[:8]}"
    study, series = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    files = {}
    for number in range(slices):
        path = examples[number % len(examples)]
        name = f"study/{number:04d}{path.suffix}"
        if path.suffix != ".dcm":
            files[name] = _noted(path.read_bytes(), f"{patient} {number}".encode("ascii"))
            continue
        dataset = pydicom.dcmread(path)
        instance = pydicom.uid.generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = study, series, instance
        dataset.file_meta.MediaStorageSOPInstanceUID = instance
        dataset.PatientID = patient
        dataset.InstanceNumber = number + 1
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset)
        files[name] = buffer.getvalue()
    return files


def _noted(picture: bytes, note: bytes) -> bytes:
    """The same PNG or JPEG with a comment in it, so that it is another file."""
    if picture.startswith(b"\xff\xd8"):
        return picture[:2] + b"\xff\xfe" + struct.pack(">H", len(note) + 2) + note + picture[2:]
    text = b"tEXtComment\0" + note
    end = picture.rindex(b"IEND") - 4
    return picture[:end] + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)) + picture[end:]
