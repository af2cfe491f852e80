"""`python -m inference` on real files: tables, pictures, messages and exit status."""

import csv
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, MRImageStorage, generate_uid

from imaging.limits import Limits
from imaging.reading import read_frame
from inference.__main__ import main
from inference.predictor import open_predictor
from tests.tiny_artefact import TINY_ARTEFACT, TINY_CLASS_NAMES, phantoms

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = [
    "path",
    "prediction",
    "probability",
    *(f"probability_{name}" for name in TINY_CLASS_NAMES),
    "abstained",
    "error",
]
MODEL = ["--model", str(TINY_ARTEFACT), "--engine", "openvino"]


def picture(seed: int, size: int = 160) -> npt.NDArray[np.uint8]:
    return (phantoms(1, size, seed)[0, ..., 0] * 255).astype(np.uint8)


def write_dicom(path: Path, frames: npt.NDArray[np.uint8]) -> None:
    """A small MR object of one or several frames."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality = "MR"
    dataset.Rows, dataset.Columns = frames.shape[-2:]
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = frames.tobytes()
    pydicom.dcmwrite(path, dataset)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with good files of every kind, bad ones, and ones that are no images."""
    folder = tmp_path / "study"
    (folder / "sub").mkdir(parents=True)
    cv2.imwrite(str(folder / "slice 2.png"), picture(2))
    cv2.imwrite(str(folder / "slice 10.jpg"), picture(10))
    write_dicom(folder / "sub" / "one.dcm", picture(3)[np.newaxis])
    write_dicom(folder / "sub" / "three", np.stack([picture(seed) for seed in (4, 5, 6)]))
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("inner/a.png", cv2.imencode(".png", picture(7))[1].tobytes())
        archive.writestr("__MACOSX/._a.png", b"x")
        archive.writestr("inner/broken.png", cv2.imencode(".png", picture(8))[1].tobytes()[:2000])
    (folder / "note.png").write_text("this is text")
    (folder / "empty.dcm").touch()
    (folder / "Thumbs.db").write_bytes(b"x")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MediaStorageDirectoryStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(folder / "DICOMDIR", FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128))
    return folder


def table(text: str) -> dict[str, list[str]]:
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == COLUMNS
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert len({row[0] for row in rows}) == len(rows), "a slice stands there twice"
    return {row[0]: row[1:] for row in rows[1:]}


def test_a_mixed_folder(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.csv"

    status = main([str(study), "--csv", str(results), *MODEL])

    said = capsys.readouterr()
    assert status == 3
    assert said.out == ""
    rows = table(results.read_text())
    good = {"slice 2.png", "slice 10.jpg", "sub/one.dcm", "sub/three#0", "sub/three#1", "sub/three#2"}
    good |= {"more.zip/inner/a.png"}
    bad = {"note.png": "text file", "empty.dcm": "empty", "more.zip/inner/broken.png": "ends too early"}
    assert set(rows) == {f"{study}/{name}" for name in [*good, *bad]}
    for name in good:
        prediction, probability, *each, abstained, error = rows[f"{study}/{name}"]
        assert prediction in TINY_CLASS_NAMES
        assert (abstained, error) == ("", "")
        assert sum(map(float, each)) == pytest.approx(1, abs=1e-5)
        assert probability == each[TINY_CLASS_NAMES.index(prediction)]
        assert float(probability) == max(map(float, each))
    for name, words in bad.items():
        *empty, error = rows[f"{study}/{name}"]
        assert set(empty) == {""}
        assert words in error
    names = list(rows)
    assert names.index(f"{study}/slice 2.png") < names.index(f"{study}/slice 10.jpg"), "natural order"
    for name in ("Thumbs.db", "DICOMDIR", "__MACOSX"):
        assert name in said.err
    assert "10 rows, 7 classified, 3 with an error" in said.err
    assert "not for diagnosis" in said.err


def test_agrees_with_the_predictor_to_the_bit(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(study), "--csv", "-", *MODEL])
    rows = table(capsys.readouterr().out)

    with open_predictor(TINY_ARTEFACT, engine="openvino", threads=1) as predictor:
        for name, index in (("slice 10.jpg", 0), ("sub/three", 2)):
            (alone,) = predictor.predict([read_frame(study / name, index, Limits())])
            row = rows[f"{study}/{name}" + ("#2" if index else "")]
            assert row[0] == alone.class_name
            assert [np.float32(cell) for cell in row[2:-2]] == [np.float32(p) for p in alone.probabilities.values()]


def test_all_good_exits_with_zero_and_order_does_not_matter(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(study / name) for name in ("slice 2.png", "slice 10.jpg", "sub")]
    assert main([*paths, "--csv", "-", *MODEL]) == 0
    forwards = table(capsys.readouterr().out)
    assert main([*reversed(paths), "--csv", "-", *MODEL]) == 0
    assert table(capsys.readouterr().out) == forwards


def test_heatmaps_and_overlays(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "heatmaps"
    arguments = [str(study), "--csv", str(tmp_path / "r.csv"), *MODEL, "--heatmaps", str(folder)]

    main([*arguments, "--overlay"])

    with (tmp_path / "r.csv").open() as file:
        rows = [row["error"] for row in csv.DictReader(file)]
    drawn = {number for number, error in enumerate(rows, 1) if not error}
    for kind, channels in (("heatmap", 2), ("overlay", 3)):
        pictures = {int(path.name[:6]): path for path in folder.glob(f"*.{kind}.png")}
        assert set(pictures) == drawn
        arrays = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in pictures.values()]
        assert all(array is not None and array.shape[:2] == (160, 160) and array.ndim == channels for array in arrays)
    assert any(path.name.endswith("-three#2.heatmap.png") for path in folder.iterdir())


def test_formulas_in_names_are_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("=1+1.png", picture(1))
    assert main(["=1+1.png", "--csv", "-", *MODEL]) == 0
    assert list(table(capsys.readouterr().out)) == ["'=1+1.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--csv", "{tmp}/gone/r.csv", *MODEL], r"cannot write .*/gone/r\.csv: No such file or directory"),
        (["--csv", "{tmp}", *MODEL], "is a folder; name a file in it"),
        (["--csv", "-", "--model", "{tmp}/no.neurosight"], r"there is no model artefact 'no\.neurosight'"),
        (["--csv", "-", "--model", "{tmp}/x.png"], "not a readable model artefact"),
        (["--csv", "-", *MODEL, "--overlay"], "--overlay needs --heatmaps DIR"),
        (["--csv", "-", *MODEL, "--heatmaps", "{tmp}/x.png"], r"cannot write .*/x\.png: File exists"),
    ],
)
def test_what_cannot_start_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), picture(1))

    status = main([str(tmp_path / "x.png"), *(argument.format(tmp=tmp_path) for argument in arguments)])

    assert status == 2
    said = capsys.readouterr()
    assert said.out == ""
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(said.err)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"], "nothing may be left behind"


def test_without_a_shipped_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROSIGHT_MODELS_DIR", str(tmp_path))
    assert main([str(tmp_path), "--csv", "-"]) == 2
    assert "there is no default model" in capsys.readouterr().err


def test_no_paths_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--csv", "-"])
    assert "the following arguments are required: PATH" in capsys.readouterr().err


def test_nothing_there_is_not_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Thumbs.db").touch()
    assert main([str(tmp_path / "Thumbs.db"), "--csv", "-", *MODEL]) == 3
    assert "There is no image at the given paths" in capsys.readouterr().err

    assert main([str(tmp_path / "gone.png"), "--csv", "-", *MODEL]) == 3
    assert "no file or folder of this name" in table(capsys.readouterr().out)[str(tmp_path / "gone.png")][-1]


def test_as_a_command_into_a_pipe_that_closes(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), picture(1))
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "inference", str(tmp_path / "x.png"), "--csv", "-", *MODEL]
    with os.fdopen(writing, "wb") as broken:
        done = subprocess.run(command, cwd=ROOT, stdout=broken, stderr=subprocess.PIPE, text=True, timeout=120)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
