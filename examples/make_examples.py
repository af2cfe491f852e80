"""Makes the example studies beside this script from Jun Cheng's published brain tumour slices.

Owns: choosing patients by a rule that no result can influence, wrapping their slices in DICOM with headers that are
invented and say so, saving the same slices as pictures, and a folder of deliberately mixed files for trying the
receipt. Refuses: patients on which the shipped model was trained or tuned (only the test part of its split is used),
images of any other source, and anything that differs between two runs: the same input gives the same bytes.

    python examples/make_examples.py --data FOLDER --split models/neurosight.split.csv

FOLDER holds `manifest.csv` (columns file, label, patient, plane, source, ...) and the images that it names.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import struct
import uuid
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RLELossless,
)

SOURCE = "cheng2017"
LABELS = ("glioma", "meningioma", "pituitary")
PLANES = ("axial", "coronal", "sagittal")
MOST_SLICES = 25
NAMES = ("one", "two", "three", "four")

SOURCE_SIDE, SOURCE_SPACING_MM = 512, 0.49
SLICE_DISTANCE_MM, SLICE_THICKNESS_MM = 7.0, 6.0
STUDY_DATE = "20170403"
NOTICE = "Header synthetic; pixels: Jun Cheng, brain tumor dataset, figshare 2017, CC BY 4.0; research use only"

# Direction of rows and columns, and of the step from slice to slice, in DICOM's patient axes (left, back, head).
ORIENTATION = {
    "axial": ((1, 0, 0, 0, 1, 0), (0, 0, 1)),
    "coronal": ((1, 0, 0, 0, 0, -1), (0, 1, 0)),
    "sagittal": ((0, 1, 0, 0, 0, -1), (1, 0, 0)),
}
_NAMESPACE = uuid.UUID("6f0a54e2-3c1d-4b57-9e0e-51a3f0c6b7d2")
_ZIP_TIME = (2017, 4, 3, 0, 0, 0)


@dataclass(frozen=True)
class Slice:
    """One source picture: its file, and the plane it was taken in."""

    file: str
    plane: str


@dataclass(frozen=True)
class Patient:
    """One source patient with all slices of it that the source publishes."""

    source_id: str
    label: str
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Recipe:
    """How one example study is stored, so that together they show what is read.

    Attributes:
        transfer_syntax: Of the DICOM files.
        side: Pixels a side; 512 is the source's own size.
        bits: Bits stored a pixel.
        photometric: MONOCHROME2, or MONOCHROME1 with inverted values.
        picture: Suffix of the pictures beside the DICOM files.
    """

    transfer_syntax: UID
    side: int
    bits: int
    photometric: str
    picture: str


RECIPES = (
    Recipe(JPEGBaseline8Bit, 512, 8, "MONOCHROME2", "jpg"),
    Recipe(ExplicitVRLittleEndian, 256, 12, "MONOCHROME2", "png"),
    Recipe(JPEG2000Lossless, 256, 12, "MONOCHROME2", "png"),
    Recipe(RLELossless, 256, 8, "MONOCHROME1", "jpg"),
)


def choose(data: Path, split: Path) -> list[Patient]:
    """Choose patients of the test part that have slices in all three planes.

    Args:
        data: Folder with `manifest.csv`.
        split: CSV with columns file and split.

    Returns:
        For each label the patient with most slices (at most `MOST_SLICES`), then the one of those left with fewest;
        ties go to the first patient number.

    Raises:
        SystemExit: The split has no such patients.
    """
    with split.open(newline="", encoding="utf-8") as file:
        test = {row["file"] for row in csv.DictReader(file) if row["split"] == "test"}
    found: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["file"] in test and row["source"] == SOURCE:
                found[row["patient"], row["label"]].append(Slice(row["file"], row["plane"]))
    patients = [
        Patient(source_id, label, tuple(sorted(slices, key=lambda item: int(Path(item.file).stem))))
        for (source_id, label), slices in sorted(found.items())
        if {item.plane for item in slices} == set(PLANES)
    ]
    chosen: list[Patient] = []
    for label in LABELS:
        fitting = [item for item in patients if item.label == label and len(item.slices) <= MOST_SLICES]
        if not fitting:
            raise SystemExit(f"The test part of {split} has no patient with {label} and slices in all three planes.")
        chosen.append(max(fitting, key=lambda item: len(item.slices)))
    left = [item for item in patients if item not in chosen]
    if not left:
        raise SystemExit(f"The test part of {split} has too few patients with slices in all three planes.")
    return [*chosen, min(left, key=lambda item: len(item.slices))]


def uid_of(*names: object) -> UID:
    """Give a UID under 2.25 that depends on the names alone.

    Args:
        *names: What it identifies.
    """
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(str(name) for name in names)).int}")


def header(name: str, plane: str, number: int, count: int, recipe: Recipe, sop_class: UID) -> FileDataset:
    """Write an invented but valid header.

    Args:
        name: The example's name.
        plane: Anatomical plane.
        number: Number of the slice in its series, from 1.
        count: Slices in the series.
        recipe: How the pixels will be stored.
        sop_class: Kind of object.
    """
    instance = uid_of(name, plane, number, sop_class)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = recipe.transfer_syntax
    meta.ImplementationClassUID = uid_of("implementation")
    meta.ImplementationVersionName = "NS_EXAMPLES"
    ds = FileDataset("", Dataset(), preamble=b"\x00" * 128, file_meta=meta)
    order = NAMES.index(name) + 1
    spacing_mm = SOURCE_SPACING_MM * SOURCE_SIDE / recipe.side
    axes, step = ORIENTATION[plane]
    half_mm = spacing_mm * (recipe.side - 1) / 2
    offset_mm = SLICE_DISTANCE_MM * (number - 1 - (count - 1) / 2)
    corner = [offset_mm * step[i] - half_mm * (axes[i] + axes[i + 3]) for i in range(3)]
    ds.ImageType = ["DERIVED", "SECONDARY", plane.upper()]
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, instance
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid_of(name), uid_of(name, plane)
    ds.FrameOfReferenceUID = uid_of(name, "frame of reference")
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = STUDY_DATE
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "000000"
    ds.AccessionNumber, ds.StudyID = f"EXAMPLE{order:04d}", str(order)
    ds.Modality, ds.Manufacturer = "MR", "NeuroSight examples"
    ds.ReferringPhysicianName, ds.PatientBirthDate, ds.PatientSex = "", "", "O"
    ds.PatientName, ds.PatientID = f"EXAMPLE^{name.upper()}", f"EXAMPLE-{order}"
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", "Published data set; header invented"
    ds.StudyDescription = "Example study (synthetic header)"
    ds.SeriesDescription = f"{plane} T1 contrast (synthetic header)"
    ds.PatientComments = NOTICE
    ds.BodyPartExamined, ds.PatientPosition = "BRAIN", "HFS"
    ds.ContrastBolusAgent = "unspecified"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "SE", "NONE", ""
    ds.MRAcquisitionType, ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = "2D", None, None, None
    ds.SliceThickness, ds.SpacingBetweenSlices = SLICE_THICKNESS_MM, SLICE_DISTANCE_MM
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = PLANES.index(plane) + 1, number, 1
    ds.ImageOrientationPatient = list(axes)
    ds.ImagePositionPatient = [round(value, 3) for value in corner]
    ds.PositionReferenceIndicator = ""
    ds.PixelSpacing = [round(spacing_mm, 4)] * 2
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "01"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, recipe.photometric
    ds.Rows = ds.Columns = recipe.side
    ds.BitsAllocated = 8 if recipe.bits <= 8 else 16
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = recipe.bits, recipe.bits - 1, 0
    return ds


def stored_values(grey: NDArray[np.uint8], recipe: Recipe) -> NDArray[Any]:
    """Turn displayed grey into stored values: more bits, or inverted.

    Args:
        grey: uint8, shape (rows, columns).
        recipe: How the pixels are stored.

    Returns:
        uint8 or little-endian uint16 of the same shape.
    """
    values = np.rint(grey.astype(np.float64) * ((1 << recipe.bits) - 1) / 255)
    if recipe.photometric == "MONOCHROME1":
        values = (1 << recipe.bits) - 1 - values
    return values.astype(np.uint8 if recipe.bits <= 8 else np.dtype("<u2"))


def write_dicom(target: Path, ds: FileDataset, jpeg: bytes, grey: NDArray[np.uint8], recipe: Recipe) -> None:
    """Add the pixels to a header and save it.

    Args:
        target: File to write.
        ds: The header.
        jpeg: The source's own JPEG stream, used as it is when the recipe stores that.
        grey: uint8, shape (rows, columns): the slice at the recipe's size.
        recipe: How the pixels are stored.
    """
    if recipe.bits > 8:
        # The window that shows value 0 as black and the highest as white (PS3.3 C.11.2.1.2).
        ds.WindowCenter, ds.WindowWidth = 1 << (recipe.bits - 1), 1 << recipe.bits
    if recipe.transfer_syntax == JPEGBaseline8Bit:
        ds.PixelData = encapsulate([jpeg])
        ds["PixelData"].is_undefined_length = True
        ds["PixelData"].VR = "OB"
    else:
        values = stored_values(grey, recipe)
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.PixelData = values.tobytes()
        ds["PixelData"].VR = "OB" if values.dtype == np.uint8 else "OW"
        if recipe.transfer_syntax != ExplicitVRLittleEndian:
            ds.compress(recipe.transfer_syntax, generate_instance_uid=False)
    ds.save_as(target, enforce_file_format=True)


def picture_of(jpeg: bytes, grey: NDArray[np.uint8], recipe: Recipe) -> bytes:
    """Give the slice as a picture; at the source's own size the source's JPEG, byte for byte."""
    if recipe.picture == "jpg" and recipe.side == SOURCE_SIDE:
        return jpeg
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if recipe.picture == "jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    done, encoded = cv2.imencode(f".{recipe.picture}", grey, options)
    if not done:
        raise RuntimeError(f"OpenCV could not write a {recipe.picture} picture.")
    return encoded.tobytes()


def write_study(target: Path, data: Path, name: str, patient: Patient, recipe: Recipe) -> Iterator[list[str]]:
    """Write one patient as a DICOM study and as pictures.

    Args:
        target: The examples' folder.
        data: The source's folder.
        name: The example's name.
        patient: Whose slices.
        recipe: How they are stored.

    Yields:
        Rows for `provenance.csv`.
    """
    counts = Counter(item.plane for item in patient.slices)
    numbers: Counter[str] = Counter()
    for item in patient.slices:
        numbers[item.plane] += 1
        number = numbers[item.plane]
        jpeg = (data / item.file).read_bytes()
        decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
        if decoded is None or decoded.shape != (SOURCE_SIDE, SOURCE_SIDE):
            raise SystemExit(f"{item.file} is not a {SOURCE_SIDE} x {SOURCE_SIDE} picture as published.")
        if recipe.side != SOURCE_SIDE:
            decoded = cv2.resize(decoded, (recipe.side, recipe.side), interpolation=cv2.INTER_AREA)
        grey: NDArray[np.uint8] = np.asarray(decoded, np.uint8)
        dicom = Path(name, "dicom", item.plane, f"{number:03d}.dcm")
        picture = Path(name, "pictures", f"{item.plane}-{number:03d}.{recipe.picture}")
        for path in (dicom, picture):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
        ds = header(name, item.plane, number, counts[item.plane], recipe, MRImageStorage)
        write_dicom(target / dicom, ds, jpeg, grey, recipe)
        (target / picture).write_bytes(picture_of(jpeg, grey, recipe))
        yield [dicom.as_posix(), picture.as_posix(), patient.label, item.plane, Path(item.file).name, patient.source_id]


def write_mixed(target: Path) -> None:
    """Write the folder of deliberately mixed files, out of the first two studies.

    Args:
        target: The examples' folder, its studies already written.
    """
    mixed = target / "mixed"
    mixed.mkdir()
    good = (target / "two/pictures/axial-001.png").read_bytes()
    jpeg = (target / "one/pictures/axial-001.jpg").read_bytes()
    dicom = (target / "one/dicom/axial/002.dcm").read_bytes()
    (mixed / "axial.png").write_bytes(good)
    (mixed / "axial - copy.png").write_bytes(good)
    (mixed / "sagittal.jpg").write_bytes((target / "one/pictures/sagittal-001.jpg").read_bytes())
    (mixed / "slice without a suffix").write_bytes(dicom)
    (mixed / "cut off.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (mixed / "cut off.dcm").write_bytes(dicom[: len(dicom) * 2 // 3])
    (mixed / "empty.dcm").write_bytes(b"")
    (mixed / "report.png").write_text("This is a text file that somebody named .png.\n", encoding="utf-8")
    (mixed / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 504)
    # A picture that states a size far beyond any limit in a header of a few bytes.
    chunk = struct.pack(">II", 30_000, 30_000) + b"\x08\x00\x00\x00\x00"
    body = b"\x00\x00\x00\x0dIHDR" + chunk + struct.pack(">I", zlib.crc32(b"IHDR" + chunk))
    (mixed / "far too large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body + b"\x00\x00\x00\x00IEND\xaeB`\x82")
    directory = header("one", "axial", 1, 1, RECIPES[1], MediaStorageDirectoryStorage)
    (mixed / "DICOMDIR").write_bytes(_directory_bytes(directory.file_meta))
    tiny = Recipe(ExplicitVRLittleEndian, 16, 12, "MONOCHROME2", "png")
    ct = header("one", "axial", 1, 1, tiny, CTImageStorage)
    ct.Modality, ct.BodyPartExamined, ct.SeriesDescription = "CT", "HEAD", "not an MR image (synthetic)"
    ct.SeriesInstanceUID = uid_of("one", "ct")
    write_dicom(mixed / "ct.dcm", ct, b"", np.zeros((16, 16), np.uint8), tiny)
    with zipfile.ZipFile(mixed / "archive.zip", "w") as archive:
        for entry, content in (
            ("series/coronal.dcm", (target / "one/dicom/coronal/001.dcm").read_bytes()),
            ("series/notes.txt", b"Notes.\n"),
            ("__MACOSX/series/._coronal.dcm", b"\x00\x05\x16\x07" + b"\x00" * 78),
            ("../outside.png", good),
        ):
            archive.writestr(zipfile.ZipInfo(entry, _ZIP_TIME), content, zipfile.ZIP_DEFLATED)


def _directory_bytes(meta: FileMetaDataset) -> bytes:
    """Write a DICOMDIR without records: an empty table of contents."""
    ds = FileDataset("", Dataset(), preamble=b"\x00" * 128, file_meta=meta)
    ds.FileSetID = "EXAMPLE"
    ds.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    ds.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    ds.FileSetConsistencyFlag = 0
    ds.DirectoryRecordSequence = []
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Make all examples afresh.

    Args:
        arguments: Command line without the program; None for the process's own.
    """
    parser = argparse.ArgumentParser(description="Make the example studies from the published slices.")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv and its images")
    parser.add_argument("--split", type=Path, required=True, help="split of the shipped model (models/*.split.csv)")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent, help="where to write; default: here")
    options = parser.parse_args(arguments)
    target: Path = options.target
    patients = choose(options.data, options.split)
    for folder in (*NAMES, "mixed"):
        if (target / folder).exists():
            shutil.rmtree(target / folder)
    rows = [["dicom", "picture", "label", "plane", "source_file", "source_patient"]]
    for name, patient, recipe in zip(NAMES, patients, RECIPES, strict=True):
        rows += write_study(target, options.data, name, patient, recipe)
        print(f"{name}: {patient.label}, {len(patient.slices)} slices, {recipe.transfer_syntax.name}")
    with (target / "provenance.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    write_mixed(target)


if __name__ == "__main__":
    main()
