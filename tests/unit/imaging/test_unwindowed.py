"""Values before the window: as deep as the scanner's, and shown through their window they are the displayed picture."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from imaging.decoders import Decoders
from imaging.frames import Pixels, Unwindowed
from imaging.limits import Allowance, Limits
from imaging.outcomes import Reason, RejectedFile
from imaging.reading import read_frame, read_unwindowed
from tests.unit.imaging.dicom_files import mr, ramp, to_bytes

LIMITS = Limits()
DEEP = ramp()
SIGNED = (DEEP.astype(np.int32) - 2000).astype(np.int16)
COLOUR = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
SHALLOW = (DEEP // 16).astype(np.uint8)


def shown(found: Unwindowed) -> Pixels:
    """What a viewer draws."""
    grey = np.clip((found.values - found.centre) / found.width + 0.5, 0, 1)
    return np.asarray(1 - grey if found.inverted else grey, np.float32)


def table(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize(
    ("pixels", "bits", "attributes"),
    [
        (DEEP, 12, {}),
        (DEEP, 12, {"WindowCenter": 2000, "WindowWidth": 3000}),
        (DEEP, 12, {"WindowCenter": 2000, "WindowWidth": 1}),
        (DEEP, 12, {"WindowCenter": 2000, "WindowWidth": 3000, "VOILUTFunction": "LINEAR_EXACT"}),
        (DEEP, 12, {"RescaleSlope": "2.5", "RescaleIntercept": "-1024", "WindowCenter": 40, "WindowWidth": 4000}),
        (DEEP, 12, {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 2000, "WindowWidth": 3000}),
        (DEEP, 12, {"PhotometricInterpretation": "MONOCHROME1"}),
        (DEEP, 12, {"PixelPaddingValue": 0, "WindowCenter": 2000, "WindowWidth": 9000}),
        (DEEP, 12, {"VOILUTSequence": [table(LUTDescriptor=[3, 0, 8], LUTData=b"\x00\x00\x40\x00\xff\x00")]}),
        (SIGNED, 16, {"WindowCenter": 0, "WindowWidth": 2000}),
        (SHALLOW, 8, {}),
        (np.stack([SHALLOW, SHALLOW // 2, 255 - SHALLOW], -1), 8, COLOUR),
    ],
)
def test_through_its_window_it_is_the_displayed_picture(
    pixels: NDArray[Any], bits: int, attributes: dict[str, Any]
) -> None:
    content = to_bytes(mr(pixels, bits, **attributes))
    np.testing.assert_allclose(
        shown(read_unwindowed(content, 0, LIMITS)), read_frame(content, 0, LIMITS).pixels, atol=1 / 500
    )


def test_the_scanners_values_are_all_there() -> None:
    dataset = mr(DEEP, 12, RescaleSlope="2", RescaleIntercept="-100", WindowCenter=500, WindowWidth=100)
    dataset.compress(RLELossless)
    found = read_unwindowed(to_bytes(dataset), 0, LIMITS)
    np.testing.assert_array_equal(found.values, DEEP.astype(np.float32) * 2 - 100)
    assert (found.centre, found.width, found.inverted) == (499.5, 99.0, False)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_picture_keeps_its_levels(depth: type[np.unsignedinteger[Any]]) -> None:
    levels = np.linspace(0, np.iinfo(depth).max, 48 * 32).reshape(32, 48).astype(depth)
    done, content = cv2.imencode(".png", levels)
    assert done
    found = read_unwindowed(bytes(content), 0, LIMITS)
    np.testing.assert_array_equal(found.values, levels.astype(np.float32))
    np.testing.assert_allclose(shown(found), read_frame(bytes(content), 0, LIMITS).pixels, atol=1e-6)


def test_from_a_decoder_process(tmp_path: Path) -> None:
    path = tmp_path / "slice.dcm"
    path.write_bytes(to_bytes(mr(DEEP, 12, WindowCenter=2000, WindowWidth=3000)))
    with Decoders(LIMITS, Allowance(), lanes=1) as decoders:
        found, here = decoders.read_unwindowed(path, 0), read_unwindowed(path, 0, LIMITS)
        np.testing.assert_array_equal(found.values, here.values)
        assert (found.centre, found.width, found.inverted) == (here.centre, here.width, here.inverted)
        with pytest.raises(RejectedFile, match="Frame 3 was asked for") as refused:
            decoders.read_unwindowed(path, 3)
        assert refused.value.reason is Reason.FRAME_MISSING
