"""Weights as `.npz`: floating point arrays only, every size checked before memory is taken."""

import io
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from inference import weights as weight_files
from inference.errors import ArtefactError

GOOD: dict[str, npt.NDArray[Any]] = {
    "b/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/bias": np.ones(3, np.float16),
}


def archive(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


def npy(array: npt.NDArray[Any], *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


def test_round_trip_is_exact_and_repeatable() -> None:
    content = weight_files.to_bytes(GOOD)
    again = weight_files.from_bytes(content)

    assert list(again) == ["a/bias", "b/kernel"]
    for name, array in GOOD.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name], array)
    assert weight_files.to_bytes(dict(reversed(GOOD.items()))) == content
    with np.load(io.BytesIO(content), allow_pickle=False) as theirs:
        np.testing.assert_array_equal(theirs["b/kernel"], GOOD["b/kernel"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "no weights were given"),
        ({"../x": np.ones(1, np.float32)}, "is not a variable path"),
        ({"/abs": np.ones(1, np.float32)}, "is not a variable path"),
        ({"a": np.ones(1, np.float64)}, "a is of type float64; expected float16 or float32"),
        ({"a": np.array([object()])}, "of type object"),
        ({"a": np.array([np.inf], np.float32)}, "holds NaN or infinity"),
    ],
)
def test_what_could_not_be_read_is_not_written(weights: Any, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        weight_files.to_bytes(weights)


def lying_header(shape: tuple[int, ...], payload: bytes) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + payload


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable archive"),
        (archive({}), "holds 0 arrays"),
        (archive({"a.npy": npy(np.array([{}]), pickled=True)}), "type object"),
        (archive({"a.npy": b"\x80\x04K\x01."}), r"no readable \.npy header"),
        (archive({"a.npy": lying_header((2**40,), b"1234")}), r"says shape \(1099511627776,\)"),
        (archive({"a.npy": lying_header((2**40, 0), b"1234")}), "holds 4 bytes"),
        (archive({"a.npy": lying_header((-1,), b"1234")}), "says shape"),
        (archive({"a.npy": npy(np.ones(2, np.int64))}), "type int64"),
        (
            archive({"a.npy": npy(np.asfortranarray(np.ones((2, 3), np.float32)))}),
            "expected float16 or float32 in C order",
        ),
        (archive({"a.npy": npy(np.array([np.nan], np.float32))}), "holds NaN"),
        (archive({"../a.npy": npy(np.ones(1, np.float32))}), "not a variable path"),
        (archive({"a.txt": b"x"}), r"not as \.npy"),
        (archive({"a.npy": npy(np.ones(9999, np.float32))}, zipfile.ZIP_DEFLATED), "compressed or encrypted"),
        (archive({"a.npy": npy(np.ones(99, np.float32))})[:-30], "not a readable archive"),
    ],
)
def test_hostile_content_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        weight_files.from_bytes(content)
