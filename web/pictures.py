"""Pictures made from stored files: a slice in grey, its heatmap, and the overlay of both.

Owns decoding one frame of a stored file within the limits, and drawing. Files were accepted by intake; a file that
cannot be read all the same is a problem document, never a broken picture. How many are decoded at once is bounded, so
that a page of thumbnails does not take all memory.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from sqlalchemy.orm import Session

from db.predictions import Heatmap, Prediction
from db.studies import Instance
from imaging import heatmaps
from imaging.decoders import Decoders, DecodersUnavailable
from imaging.frames import Pixels
from imaging.outcomes import RejectedFile
from web.problems import Problem
from web.services import services

T = TypeVar("T")

_DECODING = threading.BoundedSemaphore(3)


def slice_png(instance: Instance) -> bytes:
    """The slice as it is displayed (window, inversion), PNG, 8-bit grey."""
    return heatmaps.slice_png(_pixels(instance))


def slice_values(instance: Instance) -> tuple[bytes, dict[str, str]]:
    """The slice at the depth it was acquired with, for a reader who sets the window.

    Returns:
        uint16 little endian (rows, columns), and headers that say how to show them: a value v stands for
        v x Slice-Slope + Slice-Intercept in the scanner's unit, the window (Slice-Window-Centre, Slice-Window-Width) is
        in that unit, and with Slice-Inverted low values are bright.
    """
    found = _file(instance.content_sha256, lambda decoders, path: decoders.read_unwindowed(path, instance.frame_index))
    low, high = float(found.values.min()), float(found.values.max())
    # Whole numbers that fit are given as they are; other values in 65,536 steps.
    whole = high - low <= 65535 and bool((found.values == np.rint(found.values)).all())
    slope = 1.0 if whole else max(high - low, 1e-9) / 65535
    stored = np.rint((found.values - np.float32(low)) * np.float32(1 / slope)).astype("<u2")
    facts = {
        "Slice-Rows": str(stored.shape[0]),
        "Slice-Columns": str(stored.shape[1]),
        "Slice-Slope": repr(slope),
        "Slice-Intercept": repr(low),
        "Slice-Window-Centre": repr(found.centre),
        "Slice-Window-Width": repr(found.width),
        "Slice-Inverted": "1" if found.inverted else "0",
    }
    return stored.tobytes(), facts


def sample_png(digest: str, frame_index: int, side: int) -> bytes:
    """One picture of a data set, its longest side at most `side` pixels, PNG, 8-bit grey."""
    return heatmaps.thumbnail_png(_read(digest, frame_index), side)


def heatmap_layer_png(instance: Instance, heatmap: Heatmap, colour_map: str) -> bytes:
    """The heatmap alone as a transparent layer of the slice's size, PNG, 8-bit RGBA."""
    return heatmaps.layer_png(_placed(instance, heatmap), colour_map)


def overlay_png(instance: Instance, heatmap: Heatmap, colour_map: str, opacity: float) -> bytes:
    """The heatmap drawn over the slice, PNG, 8-bit RGB."""
    return heatmaps.overlay(_pixels(instance), _placed(instance, heatmap), colour_map, opacity)


def heatmap_of(session: Session, prediction: Prediction) -> Heatmap:
    """The heatmap of a prediction. Raises Problem 404 when it has none."""
    found = session.get(Heatmap, prediction.id)
    if found is None:
        raise Problem(404, "no_heatmap", "This prediction has no heatmap.")
    return found


def _pixels(instance: Instance) -> Pixels:
    return _read(instance.content_sha256, instance.frame_index)


def _read(digest: str, frame_index: int) -> Pixels:
    return _file(digest, lambda decoders, path: decoders.read_frame(path, frame_index).pixels)


def _file(digest: str, read: Callable[[Decoders, Path], T]) -> T:
    parts = services()
    with _decoding(), parts.blobs.local_path(digest) as path:
        try:
            return read(parts.decoders, path)
        except RejectedFile as rejected:
            raise unreadable(rejected) from rejected
        except DecodersUnavailable as error:
            raise busy() from error


def _placed(instance: Instance, heatmap: Heatmap) -> Pixels:
    box = (heatmap.box_x0, heatmap.box_y0, heatmap.box_x1, heatmap.box_y1)
    return heatmaps.place(heatmaps.decode(heatmap.png), box, (instance.rows, instance.columns))


@contextmanager
def _decoding() -> Iterator[None]:
    if not _DECODING.acquire(timeout=15):
        raise busy()
    try:
        yield
    finally:
        _DECODING.release()


def unreadable(rejected: RejectedFile) -> Problem:
    """What is answered when a stored file cannot be read all the same."""
    return Problem(
        422, "unreadable_slice", "The stored file cannot be shown: %(reason)s", facts={"reason": str(rejected)}
    )


def busy() -> Problem:
    """What is answered when no decoder is free."""
    return Problem(503, "busy_pictures", "Too many pictures are being made; try again.", headers={"Retry-After": "2"})
