"""Small data sets on disk for the tests of training."""

import csv
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

CLASSES = ("glioma", "no_tumor")


def picture(label: str, seed: int, side: int = 96) -> npt.NDArray[np.uint8]:
    """A head-like disc, with a bright spot when there is a tumour: uint8 (side, side)."""
    rng = np.random.default_rng(seed)
    found = np.zeros((side, side), np.float32)
    radius = side * rng.uniform(0.3, 0.42)
    cv2.circle(found, (side // 2, side // 2), round(radius), 90, -1)
    # Structure of its own for each patient, so that two of them are not near-duplicates.
    coarse = rng.uniform(0.3, 1.7, (8, 8)).astype(np.float32)
    found *= cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    if label == "glioma":
        at = (side // 2 + rng.uniform(-0.4, 0.4, 2) * radius).astype(int)
        cv2.circle(found, (int(at[0]), int(at[1])), side // 10, 250, -1)
    return np.clip(found + rng.normal(0, 2, found.shape), 0, 255).astype(np.uint8)


def write_dataset(root: Path, patients: int = 12, slices: int = 2) -> Path:
    """A data set with a manifest: `patients` of each class, `slices` of each; returns its folder."""
    rows = []
    for label in CLASSES:
        (root / "images" / label).mkdir(parents=True)
        for patient in range(patients):
            for number in range(slices):
                file = f"images/{label}/{patient}_{number}.png"
                seed = CLASSES.index(label) * 10_000 + patient * 100 + number
                cv2.imwrite(str(root / file), picture(label, seed))
                plane = "axial" if label == "glioma" else ""
                rows.append((file, label, f"{label}-{patient}", plane, 0.5, 0.5, 0.2, 0.2, "here"))
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file_:
        writer = csv.writer(file_)
        writer.writerow(("file", "label", "patient", "plane", "box_x", "box_y", "box_w", "box_h", "source"))
        writer.writerows(rows)
    return root
