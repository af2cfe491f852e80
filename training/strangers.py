"""Pictures that a model of brain slices must not answer: what the guard is developed on and measured with.

Owns: drawing such pictures (noise, plain areas, text, shapes, charts), altering real slices until they are none of what
the model was made for (inverted, turned, in pieces, several on one sheet), and gathering what installed packages and
named folders hold. Refuses: to set a threshold: that comes from brain slices alone (`training.guard`).

Two sets that share nothing: `DEVELOPMENT` was looked at while the guard was written, `HELD_BACK` was not. Drawn
pictures differ in their seeds, and the kinds of `_HELD_BACK_ONLY` were never drawn while the guard was written; real
ones come from other packages; altered ones from another part of the data set.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from imaging.limits import Limits
from imaging.outcomes import RejectedFile
from imaging.reading import iter_frames

Float32 = npt.NDArray[np.float32]
Draw = Callable[[np.random.Generator], npt.NDArray[Any]]
"""Draws one picture: grey, nominally in [0, 1], or whole levels of 255."""

DEVELOPMENT: Final = "development"
HELD_BACK: Final = "held_back"
SIDE: Final = 256

_PACKAGES: Final = (
    ("pydicom", "data/test_files"),
    ("pynetdicom", "tests/dicom_files"),
    ("sklearn", "datasets/images"),
    ("matplotlib", "mpl-data/sample_data"),
)
"""Installed packages that ship pictures, and where: X-ray, CT, ultrasound, knees and livers, photographs, charts."""
_SUFFIXES: Final = frozenset({".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
_FRAMES: Final = 2
_ALL_MODALITIES: Final = frozenset({"CR", "CT", "DX", "MG", "MR", "NM", "OT", "PT", "RF", "US", "XA", ""})


@dataclass(frozen=True, slots=True, eq=False)
class Stranger:
    """One picture that is no brain slice.

    Attributes:
        kind: What it is, for counting: `noise`, `text`, `packages`, `inverted`, ...
        name: Of this one.
        pixels: float32 (h, w), range [0, 1].
    """

    kind: str
    name: str
    pixels: Float32

    @property
    def looks(self) -> bytes:
        """What it looks like from afar: the same for one picture in several encodings."""
        return np.round(cv2.resize(self.pixels, (16, 16), interpolation=cv2.INTER_AREA) * 12).astype(np.int8).tobytes()


def drawn(part: str, each: int = 12) -> Iterator[Stranger]:
    """Generated pictures: `each` of every kind of a part; the same ones every time.

    Args:
        part: `DEVELOPMENT` or `HELD_BACK`.
        each: How many of a kind.
    """
    kinds: Mapping[str, Draw] = _KINDS if part == DEVELOPMENT else {**_KINDS, **_HELD_BACK_ONLY}
    for place, (kind, draw) in enumerate(kinds.items()):
        for number in range(each):
            rng = np.random.default_rng([part == HELD_BACK, place, number])
            picture = draw(rng)
            unit = picture / 255 if picture.dtype == np.uint8 else picture
            yield Stranger(kind, f"{kind}-{number}", np.clip(unit, 0, 1).astype(np.float32))


def altered(slices: Iterable[tuple[str, Float32]]) -> Iterator[Stranger]:
    """Real slices made into what the model was not made for.

    Args:
        slices: Names and pixels, float32 (h, w), range [0, 1].

    Yields:
        `inverted` (bright where dark), `upside_down`, `on_its_side`, `quarter` (a piece without the head's outline) and
        `sheet` (four slices on one picture, as printed films have them), of every slice.
    """
    for name, pixels in slices:
        height, width = pixels.shape
        piece = pixels[height // 3 : height // 3 + height // 4, width // 3 : width // 3 + width // 4]
        yield Stranger("inverted", name, 1 - pixels)
        yield Stranger("upside_down", name, np.ascontiguousarray(pixels[::-1]))
        yield Stranger("on_its_side", name, np.ascontiguousarray(np.rot90(pixels)))
        large = cv2.resize(piece, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        yield Stranger("quarter", name, np.asarray(large, np.float32))
        yield Stranger("sheet", name, np.tile(pixels, (2, 2)))


def shipped_with_packages() -> Iterator[Stranger]:
    """Pictures that installed packages bring along, each once; packages that are missing are left out."""
    folders = []
    for package, folder in _PACKAGES:
        spec = find_spec(package)
        folders += [Path(place) / folder for place in (spec.submodule_search_locations or ())] if spec else []
    yield from of_folders(folders, "packages")


def of_folders(folders: Iterable[Path], kind: str, known: Iterable[Stranger] = ()) -> Iterator[Stranger]:
    """Pictures of folders, the first frames of each file, each picture once; what cannot be read is passed over.

    Args:
        folders: Where to look; folders in them are not looked into.
        kind: What to call them.
        known: Pictures that are passed over too.
    """
    limits = replace(Limits(), modalities=_ALL_MODALITIES)
    # Test files are often one picture in many encodings, and packages take them from one another.
    seen = {stranger.looks for stranger in known}
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix.lower() not in _SUFFIXES:
                continue
            try:
                for frame in iter_frames(path, limits, range(_FRAMES)):
                    stranger = Stranger(kind, f"{path.name}#{frame.index}", frame.pixels)
                    if stranger.looks not in seen:
                        seen.add(stranger.looks)
                        yield stranger
            except RejectedFile:
                continue


def _level(rng: np.random.Generator) -> int:
    return int(rng.integers(256))


def _noise(rng: np.random.Generator) -> npt.NDArray[Any]:
    way = rng.integers(4)
    if way == 0:
        return rng.normal(0.5, rng.uniform(0.02, 0.4), (SIDE, SIDE)).astype(np.float32)
    if way == 1:
        return rng.random((SIDE, SIDE)).astype(np.float32)
    if way == 2:
        return (rng.random((SIDE, SIDE)) > rng.uniform(0.5, 0.99)).astype(np.float32)
    coarse = rng.random((int(rng.integers(4, 40)),) * 2).astype(np.float32)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def _plain(rng: np.random.Generator) -> npt.NDArray[Any]:
    x, y = np.meshgrid(np.linspace(0, 1, SIDE), np.linspace(0, 1, SIDE))
    way = rng.integers(4)
    if way == 0:
        picture = np.full((SIDE, SIDE), rng.random())
    elif way == 1:
        angle = rng.uniform(0, 2 * np.pi)
        picture = x * np.cos(angle) + y * np.sin(angle)
    elif way == 2:
        picture = 1 - 1.4 * np.hypot(x - rng.random(), y - rng.random())
    else:
        picture = rng.random() + rng.normal(0, 0.01, (SIDE, SIDE))
    return picture.astype(np.float32)


def _text(rng: np.random.Generator) -> npt.NDArray[Any]:
    picture = np.zeros((SIDE, SIDE), np.uint8)  # letters can be put on whole levels alone
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789   ,.:"))
    scale = rng.uniform(0.35, 1.6)
    for line in range(int(20 * scale), SIDE, int(26 * scale) + 2):
        words = "".join(rng.choice(letters, int(rng.integers(8, 60))))
        cv2.putText(picture, words, (int(rng.integers(2, 30)), line), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 1)
    return 255 - picture if rng.random() < 0.6 else picture


def _screen(rng: np.random.Generator) -> npt.NDArray[Any]:
    picture = np.full((SIDE, SIDE), _level(rng), np.uint8)
    for _ in range(int(rng.integers(4, 12))):
        x, y, w, h = (int(v) for v in rng.integers(10, 200, 4))
        cv2.rectangle(picture, (x, y), (x + w, y + h), _level(rng), -1 if rng.random() < 0.6 else 1)
        cv2.putText(picture, "Open  Save  View", (x + 3, y + 14), cv2.FONT_HERSHEY_PLAIN, 0.8, _level(rng), 1)
    return picture


def _shapes(rng: np.random.Generator) -> npt.NDArray[Any]:
    picture = np.full((SIDE, SIDE), rng.uniform(0, 0.3), np.float32)
    for _ in range(int(rng.integers(2, 9))):
        level, thickness = float(rng.uniform(0.2, 1)), -1 if rng.random() < 0.7 else int(rng.integers(1, 6))
        x, y, a, b = (int(v) for v in rng.integers(20, 230, 4))
        if rng.random() < 0.5:
            cv2.ellipse(picture, (x, y), (a // 3, b // 3), float(rng.uniform(0, 180)), 0, 360, level, thickness)
        else:
            cv2.fillPoly(picture, [rng.integers(0, SIDE, (4, 2)).astype(np.int32)], level)
    return picture


def _pattern(rng: np.random.Generator) -> npt.NDArray[Any]:
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    step = int(rng.integers(4, 50))
    way = rng.integers(3)
    if way == 0:
        return np.asarray(((x // step) + (y // step)) % 2, np.float32)
    if way == 1:
        angle = rng.uniform(0, np.pi)
        phase = x * np.cos(angle) + y * np.sin(angle)
    else:
        phase = np.hypot(x - rng.integers(SIDE), y - rng.integers(SIDE))
    return np.asarray(0.5 + 0.5 * np.sin(phase * 2 * np.pi / step), np.float32)


def _phantom(rng: np.random.Generator) -> npt.NDArray[Any]:
    """An oval with ovals in it, as test objects of scanners look."""
    picture = np.zeros((SIDE, SIDE), np.float32)
    centre = (SIDE // 2, SIDE // 2)
    a, b = int(rng.integers(70, 115)), int(rng.integers(80, 120))
    cv2.ellipse(picture, centre, (a, b), 0, 0, 360, 1.0, -1)
    cv2.ellipse(picture, centre, (a - 7, b - 7), 0, 0, 360, float(rng.uniform(0.2, 0.6)), -1)
    for _ in range(int(rng.integers(2, 8))):
        x, y = (int(v) for v in rng.integers(90, 166, 2))
        cv2.ellipse(
            picture, (x, y), (int(rng.integers(3, 26)), int(rng.integers(3, 40))), 0, 0, 360, float(rng.random()), -1
        )
    return picture + rng.normal(0, rng.uniform(0, 0.04), picture.shape).astype(np.float32)


def _chart(rng: np.random.Generator) -> npt.NDArray[Any]:
    picture = np.full((SIDE, SIDE), 255, np.uint8)
    cv2.rectangle(picture, (30, 20), (240, 225), 0, 1)
    for _ in range(int(rng.integers(1, 5))):
        heights = 120 + np.cumsum(rng.normal(0, 8, 42))
        points = np.stack([np.arange(30, 240, 5), np.clip(heights, 22, 222)], axis=1).astype(np.int32)
        cv2.polylines(picture, [points], False, _level(rng) // 2, 2)
    for tick in range(6):
        cv2.putText(picture, str(tick * 20), (4, 224 - 40 * tick), cv2.FONT_HERSHEY_PLAIN, 0.8, 0, 1)
    return 255 - picture if rng.random() < 0.5 else picture


def _cloud(rng: np.random.Generator) -> npt.NDArray[Any]:
    """Noise with a spectrum that falls as that of photographs does."""
    across, down = np.meshgrid(np.fft.rfftfreq(SIDE), np.fft.fftfreq(SIDE))
    falls = np.maximum(np.hypot(across, down), 1 / SIDE) ** -rng.uniform(0.8, 2.2)
    field = np.fft.irfft2(falls * np.exp(2j * np.pi * rng.random(falls.shape)), (SIDE, SIDE))
    low, high = np.percentile(field, (1, 99))
    return np.asarray((field - low) / (high - low), np.float32)


_KINDS: Final[Mapping[str, Draw]] = {
    "noise": _noise,
    "plain": _plain,
    "text": _text,
    "screen": _screen,
    "shapes": _shapes,
    "pattern": _pattern,
}
_HELD_BACK_ONLY: Final[Mapping[str, Draw]] = {"phantom": _phantom, "chart": _chart, "cloud": _cloud}
