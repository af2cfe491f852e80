"""Builders of small DICOM files for the tests: valid ones, and ones broken in exactly one way."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

STUDY, SERIES, INSTANCE = "2.25.1", "2.25.2", "2.25.3"


def ramp(rows: int = 32, columns: int = 48, highest: int = 4095) -> NDArray[np.uint16]:
    """Give a slanted ramp from 0 to `highest`, different in each direction."""
    y, x = np.mgrid[0:rows, 0:columns]
    values: NDArray[np.uint16] = np.rint((x / (columns - 1) * 0.7 + y / (rows - 1) * 0.3) * highest).astype(np.uint16)
    return values


def mr(pixels: NDArray[Any], bits: int = 12, syntax: UID = ExplicitVRLittleEndian, **attributes: Any) -> FileDataset:
    """Wrap stored values in a small MR object.

    Args:
        pixels: (rows, columns), (frames, rows, columns) or, with SamplesPerPixel=3, (rows, columns, 3).
        bits: Bits stored.
        syntax: Transfer syntax; native ones only.
        **attributes: Set by keyword; None deletes one.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(INSTANCE)
    meta.TransferSyntaxUID = syntax
    encoding = {"is_implicit_VR": syntax.is_implicit_VR, "is_little_endian": syntax.is_little_endian}
    ds = FileDataset("", Dataset(), preamble=b"\x00" * 128, file_meta=meta, **encoding)
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, INSTANCE
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, SERIES
    ds.Modality, ds.InstanceNumber = "MR", 7
    samples = attributes.get("SamplesPerPixel", 1)
    shape = pixels.shape[:-1] if samples == 3 else pixels.shape
    ds.Rows, ds.Columns = shape[-2], shape[-1]
    if len(shape) == 3:
        ds.NumberOfFrames = shape[0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = samples, "MONOCHROME2"
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    values = pixels.astype(pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">"))
    ds.PixelData = values.tobytes() + b"\x00" * (values.nbytes % 2)
    ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in attributes.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def to_bytes(ds: Dataset) -> bytes:
    """Write a data set as a DICOM file."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
