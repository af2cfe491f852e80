"""Whole files to start mutating from: every format that is read, DICOM in every transfer syntax at hand.

Owns making them; refuses to be large: a mutation of a small file hits something that matters more often.
"""

import io
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from tests.unit.imaging.dicom_files import mr, ramp, to_bytes

EXAMPLES = Path(__file__).parents[2] / "examples"
_EXAMPLES = ("one/dicom/axial", "two/dicom/axial", "three/dicom/axial", "four/dicom/axial", "four/pictures")
_FOREIGN = (
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
    "JPEGLSNearLossless_16.dcm",
    "JPEG2000.dcm",
    "JPEG-lossy.dcm",
    "JPGExtended.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "UN_sequence.dcm",
    "nested_priv_SQ.dcm",
    "no_meta.dcm",
)
"""Of pydicom's own test files, those that its installation brings along."""


@cache
def seeds() -> dict[str, bytes]:
    """Name and content of each."""
    found = dict(sorted((_dicom() | _pictures()).items()))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/one.png", found["grey.png"])
        file.writestr("b/two.dcm", found["mr ExplicitVRLittleEndian"])
    return found | {"study.zip": archive.getvalue()}


def _dicom() -> dict[str, bytes]:
    pixels = ramp()
    window: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096, "RescaleSlope": 2, "RescaleIntercept": -5}
    place: dict[str, Any] = {
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [1, 2, 3],
        "PixelSpacing": [1, 1],
    }
    found = {}
    for syntax in (
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ):
        found[f"mr {syntax.keyword}"] = to_bytes(mr(pixels, syntax=syntax, PatientName="A^B", **window, **place))
    for syntax in (RLELossless, JPEG2000Lossless, JPEG2000):
        packed = mr(pixels, **window, **place)
        lossy: dict[str, Any] = {"j2k_psnr": [60]} if syntax == JPEG2000 else {}
        packed.compress(syntax, generate_instance_uid=False, **lossy)
        found[f"mr {syntax.keyword}"] = to_bytes(packed)
    found["signed, padded, inverted"] = to_bytes(
        mr(pixels.astype(np.int16) - 100, 16, PixelPaddingValue=-100, PhotometricInterpretation="MONOCHROME1")
    )
    found["enhanced"] = to_bytes(_enhanced())
    found["voi table"] = to_bytes(mr(pixels, VOILUTSequence=Sequence([_table()]), ModalityLUTSequence=[_table()]))
    for name in _FOREIGN:
        found[name] = Path(str(get_testdata_file(name, download=False))).read_bytes()
    for folder in _EXAMPLES:
        path = sorted((EXAMPLES / folder).iterdir())[0]
        found[f"{folder}{path.suffix}"] = path.read_bytes()
    return found


def _table() -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 12]
    table.add_new(0x00283006, "OW", np.arange(4096, dtype=np.uint16).tobytes())
    table["LUTDescriptor"].VR = "US"
    return table


def _enhanced() -> Dataset:
    def item(**attributes: object) -> Dataset:
        made = Dataset()
        for keyword, value in attributes.items():
            setattr(made, keyword, value)
        return made

    frames = [
        item(
            PlanePositionSequence=Sequence([item(ImagePositionPatient=[0, 0, z])]),
            FrameVOILUTSequence=Sequence([item(WindowCenter=2048, WindowWidth=4096)]),
        )
        for z in (1, 2)
    ]
    shared = item(PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]))
    return mr(
        np.stack([ramp(16, 16), ramp(16, 16)]),
        SOPClassUID=EnhancedMRImageStorage,
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
    )


def _pictures() -> dict[str, bytes]:
    eight = (ramp() // 16).astype(np.uint8)
    deep = ramp(highest=65535)
    colour = np.dstack([eight, eight[::-1], eight[:, ::-1]])
    found = {}
    for name, values in (("grey.png", eight), ("deep.png", deep), ("colour.jpg", colour), ("grey.bmp", eight)):
        done, data = cv2.imencode(name[-4:], values)
        assert done
        found[name] = data.tobytes()
    forms: tuple[tuple[str, dict[str, Any]], ...] = (
        ("plain.tiff", {}),
        ("packed.tiff", {"compression": "tiff_lzw"}),
        ("deflated.tiff", {"compression": "tiff_adobe_deflate"}),
        ("pages.tiff", {"save_all": True, "append_images": [Image.fromarray(eight[::-1])]}),
        ("progressive.jpeg", {"progressive": True, "quality": 80}),
        ("commented.png", {"exif": _exif(), "dpi": (100, 100)}),
    )
    for name, options in forms:
        buffer = io.BytesIO()
        Image.fromarray(eight).save(buffer, Path(name).suffix[1:].upper(), **options)
        found[name] = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(colour).quantize(16).save(buffer, "PNG", transparency=3)
    found["palette.png"] = buffer.getvalue()
    return found


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif
