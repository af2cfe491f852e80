"""The table of results: one row a slice.

Owns: its columns, the escaping of cells that a spreadsheet would run as a formula, and atomic writing. Refuses: to
leave half a table behind under the final name.
"""

import contextlib
import csv
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

import numpy as np

from inference.predictor import Prediction

STDOUT: Final = "-"
# What Excel, LibreOffice and Google Sheets take as the start of a formula (OWASP, "CSV Injection").
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


class ResultsWriter:
    """Writes rows as they come.

    Args:
        stream: Where to.
        class_names: In the model's order.
    """

    def __init__(self, stream: TextIO, class_names: Sequence[str]) -> None:
        self._class_names = tuple(class_names)
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow(columns(self._class_names))

    def write(self, path: str, result: Prediction | Exception) -> None:
        """Writes one slice: its prediction, or why there is none."""
        if isinstance(result, Exception):
            empty = [""] * (3 + len(self._class_names))
            self._writer.writerow([safe_cell(path), *empty, safe_cell(str(result))])
            return
        each = [_number(result.probabilities[name]) for name in self._class_names]
        abstained = result.abstention or ""
        self._writer.writerow([safe_cell(path), result.class_name, _number(result.probability), *each, abstained, ""])


def columns(class_names: Sequence[str]) -> list[str]:
    """`path,prediction,probability,probability_CLASS...,abstained,error`.

    `abstained` says why the model does not answer for a slice (`inference.guard.Abstention`); prediction and
    probabilities of that row are what the network said, and no result.
    """
    return ["path", "prediction", "probability", *(f"probability_{name}" for name in class_names), "abstained", "error"]


def safe_cell(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


@contextlib.contextmanager
def open_results(target: str) -> Iterator[TextIO]:
    """Opens the table for writing; the file appears under its name only when all went well.

    Args:
        target: File name, or `-` for standard output.

    Raises:
        OSError: If the folder cannot be written (at once, before any work is done).
    """
    if target == STDOUT:
        yield sys.stdout
        sys.stdout.flush()
        return
    path = Path(target)
    if path.is_dir():
        raise IsADirectoryError(21, "is a folder; name a file in it", target)
    # A link stays a link: the file that it points to is replaced.
    path = path.resolve()
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        # Its own message would name the temporary file, which says nothing to whoever gave the target.
        raise type(error)(error.errno, f"{error.strerror} (folder {path.parent})", target) from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _number(value: float) -> str:
    """Shortest decimal text, never in exponent form, that reads back as the same float32."""
    return np.format_float_positional(np.float32(value), trim="0")
