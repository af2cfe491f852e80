"""How well letters in pictures are seen: `python -m benchmarks.text_in_pictures FOLDER`.

Owns: how many pictures of a folder are taken for written on (their names are listed, to be looked at), and in how many
of every fourth a name that is drawn into the upper left corner is found. Needs pictures without writing, or nearly.
"""

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measure import machine
from imaging.frames import Pixels
from imaging.limits import Limits
from imaging.outcomes import RejectedFile
from imaging.reading import read_frame
from imaging.text_seen import text_seen

NAME = "SMITH JOHN 1970"
LETTERS = {
    "simplex 0.4": (cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1, 255),
    "simplex 0.6": (cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1, 255),
    "simplex 1.0, bold": (cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2, 255),
    "duplex 0.5": (cv2.FONT_HERSHEY_DUPLEX, 0.5, 1, 255),
    "plain 0.9, grey": (cv2.FONT_HERSHEY_PLAIN, 0.9, 1, 204),
}
MOST = 1500


def pictures(folder: Path) -> Iterator[tuple[Path, Pixels]]:
    """Some pictures of a folder, always the same."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".dcm"))
    for path in random.Random(1).sample(paths, min(MOST, len(paths))):
        try:
            yield path, read_frame(path, 0, Limits()).pixels
        except RejectedFile:
            continue


def written(pixels: Pixels, letters: str) -> Pixels:
    """The picture with the name in its upper left corner."""
    font, size, thickness, grey = LETTERS[letters]
    shown = np.rint(pixels * 255).astype(np.uint8)
    cv2.putText(shown, NAME, (4, int(shown.shape[0] * 0.08) + 8), font, size, grey, thickness, cv2.LINE_AA)
    return shown.astype(np.float32) / np.float32(255)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text_in_pictures")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    stopped, found, tried, count, seconds = [], dict.fromkeys(LETTERS, 0), 0, 0, 0.0
    for path, pixels in pictures(folder):
        began = time.perf_counter()
        seen = text_seen(pixels)
        seconds += time.perf_counter() - began
        count += 1
        if seen:
            stopped.append(path.name)
        elif count % 4 == 0:
            tried += 1
            for letters in LETTERS:
                found[letters] += text_seen(written(pixels, letters))
    print(machine(("opencv-python-headless", "numpy")))
    print(f"{count} pictures, {1000 * seconds / max(1, count):.1f} ms each; taken for written on: {len(stopped)}")
    print("  " + ", ".join(stopped))
    for letters, times in found.items():
        print(f"  {letters:20} {times} of {tried} found")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
