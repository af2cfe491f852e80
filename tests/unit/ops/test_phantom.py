"""The doctor's phantom: the project's own reader takes it, and it never repeats itself by accident."""

from pathlib import Path

from imaging.limits import Limits
from imaging.reading import inspect, read_frames
from ops import phantom


def test_the_reader_takes_every_slice(tmp_path: Path) -> None:
    phantom.write(tmp_path, slices=3, seed=1)
    paths = sorted(tmp_path.glob("*.dcm"))
    assert len(paths) == 3
    for path in paths:
        assert inspect(path, Limits()).kind == "dicom"
        (frame,) = read_frames(path, Limits())
        assert frame.pixels.shape == (phantom.SIDE, phantom.SIDE)
        assert frame.plane == "axial"
        assert 0.2 < float(frame.pixels.max()) <= 1.0


def test_two_studies_differ_and_a_seed_repeats_the_pixels(tmp_path: Path) -> None:
    pixels = []
    for name, seed in (("a", 1), ("b", 1), ("c", None), ("d", None)):
        folder = tmp_path / name
        folder.mkdir()
        phantom.write(folder, slices=1, seed=seed)
        pixels.append(read_frames(folder / "001.dcm", Limits())[0].pixels.tobytes())
    assert pixels[0] == pixels[1]
    assert len(set(pixels)) == 3
