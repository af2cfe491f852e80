"""A network's variables as one `.npz`, keyed by Keras variable path.

Owns: writing that archive with the same bytes for the same arrays, and reading one that may be hostile. Refuses:
pickled objects, any type but floating point, values that are not finite, names that are not variable paths.
"""

import io
import re
import struct
import zipfile
from collections.abc import Mapping
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.errors import ArtefactError

WEIGHTS_MEMBER: Final = "weights.npz"
MAX_ARRAYS: Final = 20_000
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*")
_TYPES: Final = (np.dtype("<f2"), np.dtype("<f4"))
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold; real times would change the bytes

Weights = Mapping[str, npt.NDArray[np.floating[Any]]]


def to_bytes(weights: Weights) -> bytes:
    """Packs arrays, sorted by name, uncompressed (the artefact around it compresses).

    Args:
        weights: Variable path -> float16 or float32 array of finite values.

    Raises:
        ArtefactError: For a name, a type or a value that `from_bytes` would refuse.
    """
    if not weights:
        raise ArtefactError("no weights were given; a network has at least one variable.")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(weights):
            array = np.ascontiguousarray(weights[name])
            _check_name(name, WEIGHTS_MEMBER)
            _check_array(name, array, WEIGHTS_MEMBER)
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), content.getvalue())
    return buffer.getvalue()


def from_bytes(content: bytes, member: str = WEIGHTS_MEMBER) -> dict[str, npt.NDArray[np.floating[Any]]]:
    """Unpacks arrays; every size is checked before memory is taken.

    Args:
        content: What `to_bytes` wrote, or something hostile.
        member: What to call it in messages.

    Returns:
        Variable path -> array, sorted by name.

    Raises:
        ArtefactError: If anything is not as `to_bytes` writes it.
    """
    weights: dict[str, npt.NDArray[np.floating[Any]]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if not 0 < len(entries) <= MAX_ARRAYS:
                raise ArtefactError(f"{member} holds {len(entries)} arrays; expected 1 to {MAX_ARRAYS}.")
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                _check_name(name, member)
                if name in weights or not entry.filename.endswith(".npy"):
                    raise ArtefactError(f"{member} holds {entry.filename!r} twice or not as .npy.")
                # Stored entries cannot be larger than the archive, so nothing can unpack to more than was read.
                if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size > len(content):
                    raise ArtefactError(f"{member}: {name} is compressed or encrypted; expected stored arrays.")
                weights[name] = _read_array(name, archive.read(entry), member)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OSError, struct.error) as error:
        raise ArtefactError(f"{member} is not a readable archive: {error}.") from None
    return weights


def _read_array(name: str, content: bytes, member: str) -> npt.NDArray[np.floating[Any]]:
    """One array out of its `.npy` bytes; the header must account for every byte."""
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ArtefactError(f"{member}: {name} has an unknown .npy version; expected 1.0.")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=2000)
    except ValueError as error:
        raise ArtefactError(f"{member}: {name} has no readable .npy header: {error}.") from None
    rest = len(content) - stream.tell()
    if dtype not in _TYPES or fortran or len(shape) > 8 or prod(shape) * dtype.itemsize != rest:
        raise ArtefactError(
            f"{member}: {name} says shape {shape[:8]}, type {dtype}, and holds {rest} bytes; expected float16 or "
            "float32 in C order whose size fits the shape."
        )
    array = np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)
    _check_array(name, array, member)
    return array


def _check_name(name: str, member: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > 300:
        raise ArtefactError(f"{member}: {name[:100]!r} is not a variable path such as 'stem_conv/kernel'.")


def _check_array(name: str, array: npt.NDArray[Any], member: str) -> None:
    if array.dtype not in _TYPES:
        raise ArtefactError(f"{member}: {name} is of type {array.dtype}; expected float16 or float32.")
    if not np.isfinite(array).all():
        raise ArtefactError(f"{member}: {name} holds NaN or infinity; the training diverged or the file is damaged.")
