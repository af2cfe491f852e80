"""A synthetic study for the doctor: drawn heads in DICOM files, and one file that is no image.

Owns pixels and headers that belong to nobody. Each call draws other noise, so that the system does not recognise a
study it has seen. Refuses to look like a patient: name, number and description say what it is.
"""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SIDE = 192
SPACING_MM = 1.0
SLICE_DISTANCE_MM = 5.0
NOT_AN_IMAGE = "notes.txt"


def write(folder: Path, *, slices: int, seed: int | None = None) -> None:
    """Writes `slices` axial DICOM files of one series into `folder`, and one text file.

    Args:
        folder: Exists.
        slices: At least 1.
        seed: For repeatable noise; None draws new noise.
    """
    random = np.random.default_rng(seed)
    study, series, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
    for number in range(1, slices + 1):
        dataset = _headers(study, series, frame_of_reference, number)
        pixels = _head(random, number / (slices + 1))
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    (folder / NOT_AN_IMAGE).write_text("The receipt has to say that this is no image.\n")


def _head(random: "np.random.Generator", height: float) -> "np.ndarray[tuple[int, int], np.dtype[np.uint16]]":
    """One slice: skull, brain, ventricles, noise; (SIDE, SIDE) uint16 in [0, 4095]."""
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    size = 0.55 + 0.25 * np.sin(np.pi * height)
    radius = np.hypot(rows / size, columns / (size * 0.8))
    picture = np.where(radius < 1.0, 2600.0, 0.0)
    picture = np.where(radius < 0.92, 500.0, picture)
    picture = np.where(radius < 0.86, 1500.0 + 250.0 * np.cos(9 * columns) * np.cos(7 * rows), picture)
    ventricles = np.hypot(rows / 0.22, (np.abs(columns) - 0.09) / 0.06) < 1.0
    picture = np.where(ventricles & (radius < 0.86), 600.0, picture)
    picture += random.normal(0.0, 40.0, picture.shape)
    return np.clip(picture, 0, 4095).astype(np.uint16)


def _headers(study: str, series: str, frame_of_reference: str, number: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.FrameOfReferenceUID = frame_of_reference
    dataset.PatientName, dataset.PatientID = "PHANTOM^DOCTOR", "PHANTOM"
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyDate = dataset.StudyTime = dataset.StudyID = dataset.ReferringPhysicianName = ""
    dataset.AccessionNumber = "PHANTOM"
    dataset.StudyDescription, dataset.SeriesDescription = "Synthetic study of the doctor", "phantom"
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", 1, number
    dataset.Manufacturer = "NeuroSight"
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    corner_mm = -SIDE * SPACING_MM / 2
    dataset.ImagePositionPatient = [corner_mm, corner_mm, number * SLICE_DISTANCE_MM]
    dataset.PixelSpacing, dataset.SliceThickness = [SPACING_MM, SPACING_MM], SLICE_DISTANCE_MM
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = 1500, 3000
    return dataset
