"""Does the heatmap tell the truth?

Owns: the measurements on slices with known tumour boxes that the model classifies rightly. Refuses: to change a
model, to show a box to training, to choose a method (a person does, by the validation part).

* **Where it points**: pointing game and energy (`training.localisation`), for every method of `inference.cam` at
  several grids, beside chance and beside a blob in the middle of the picture.
* **Does the tumour matter at all**: how far the class's probability falls when the box is filled from its
  surroundings, and when its mirror image on the other side is. This asks the network itself, whatever a heatmap says.
* **Deletion and insertion** (Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models",
  BMVC 2018): the probability as the hottest cells are blurred away first, or appear first; less is better for deletion,
  more for insertion; beside a random order.
* **Random weights** (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018): how like the heatmap stays when
  the weights are made random from the output downwards; near 0 is right.
* **Repeatability**: how like it stays when the slice is shifted by some pixels or compressed as JPEG; near 1 is right.

Likeness is Spearman's rank correlation over the cells of the grid.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from imaging.preprocess import prepare
from inference.artefact import Artefact
from inference.cam import METHODS
from inference.engines import Engine
from training.datasets import Dataset, Sample, read_grey
from training.explaining import Explainer, network_of, randomised
from training.localisation import box_in_crop, pointing, read_boxes, summarise

Float32 = npt.NDArray[np.float32]
Bounds = tuple[float, float, float, float]

STEPS: Final = 7
"""Of the deletion and insertion curves."""
CURVE_SLICES: Final = 60
CHECKED_SLICES: Final = 40
SHIFTS: Final = ((4, 0), (0, 4), (-4, -4))
"""Right and down, in pixels of the slice."""
QUALITIES: Final = (90, 75, 50, 25)
SERVED: Final = "Grad-CAM"
_BLUR: Final = 12.0
_CENTRE: Final = 0.18
_BATCH: Final = 16
_SEED: Final = 2026
_RANDOM_FROM: Final[Mapping[str, tuple[str, ...]]] = {
    "last layer": ("head_scores/",),
    "head": ("head_scores/", "head_hidden/"),
    "everything": ("",),
}


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """Rightly classified slices with a box; n of them.

    Attributes:
        samples: What they are.
        pictures: As they lie on the disk, uint8 (h, w).
        images: As the network sees them, float32 (n, S, S, 1).
        boxes: x0, y0, x1, y1 as fractions of the network's picture.
        classes: int64 (n), the class's place.
        heatmaps: float32 (n, gh, gw), as they are served.
        probabilities: float32 (n), of the class.
    """

    samples: list[Sample]
    pictures: list[npt.NDArray[np.uint8]]
    images: Float32
    boxes: list[Bounds]
    classes: npt.NDArray[np.int64]
    heatmaps: Float32
    probabilities: Float32

    def first(self, count: int) -> "Cases":
        """The first so many; cases come in random order."""
        return Cases(
            self.samples[:count],
            self.pictures[:count],
            self.images[:count],
            self.boxes[:count],
            self.classes[:count],
            self.heatmaps[:count],
            self.probabilities[:count],
        )


def gather(artefact: Artefact, engine: Engine, dataset: Dataset, samples: Sequence[Sample], most: int) -> Cases | None:
    """Slices with a box that the model classifies rightly, at most `most`, in random order; None when there is none."""
    boxes = read_boxes(dataset.root)
    boxed = [sample for sample in samples if sample.file in boxes]
    order = np.random.default_rng(_SEED).permutation(len(boxed))
    names = artefact.manifest.class_names
    kept: list[tuple[Any, ...]] = []
    for place in order:
        sample = boxed[place]
        picture = read_grey(dataset.root / sample.file)
        prepared = prepare(picture.astype(np.float32) / 255, artefact.manifest.preprocessing)
        output = engine.run(prepared.image[np.newaxis, ..., np.newaxis])
        said = int(output.probabilities[0].argmax())
        if names[said] == sample.label:
            box = box_in_crop(boxes[sample.file], (picture.shape[0], picture.shape[1]), prepared.box)
            seen = (sample, picture, prepared.image, box, said, output.heatmaps[0], output.probabilities[0, said])
            kept.append(seen)
        if len(kept) == most:
            break
    if not kept:
        return None
    samples_, pictures, images, found, classes, heatmaps, probabilities = zip(*kept, strict=True)
    return Cases(
        list(samples_),
        list(pictures),
        np.stack(images)[..., np.newaxis],
        list(found),
        np.array(classes),
        np.stack(heatmaps),
        np.array(probabilities, np.float32),
    )


def measure(artefact: Artefact, engine: Engine, cases: Cases) -> dict[str, Any]:
    """All measurements, as JSON values (docs/faithfulness.md has the layout in words)."""
    explainer = Explainer(network_of(artefact))
    maps: dict[str, Float32] = {"served": cases.heatmaps}
    explained = [explainer.explain(cases.images[at : at + _BATCH]) for at in range(0, len(cases.images), _BATCH)]
    for rows in explained[0].maps:
        for name, method in METHODS.items():
            maps[f"{name}, {rows} x {rows}"] = np.concatenate(
                [method(part.maps[rows], part.gradients[rows]) for part in explained]
            )
    few, fewer = cases.first(CURVE_SLICES), cases.first(CHECKED_SLICES)
    top = min(explained[0].maps)
    ordered = {name: maps[f"{name}, {top} x {top}"][:CURVE_SLICES] for name in METHODS}
    return {
        "slices": len(cases.samples),
        "patients": len({sample.patient for sample in cases.samples}),
        "pointing": {name: _point(cases, found) for name, found in maps.items()}
        | {"middle of the picture": _point(cases, _middle(cases.heatmaps.shape))},
        "box": _without_the_box(engine, cases),
        "curves": {"slices": len(few.samples), **_curves(engine, few, ordered)},
        "random_weights": _random_weights(artefact, fewer),
        "repeatability": _repeatability(artefact, engine, fewer),
    }


def _point(cases: Cases, heatmaps: Float32) -> dict[str, Any]:
    """Pointing game and energy: of all, by class and by plane."""
    found = [pointing(heatmap, box) for heatmap, box in zip(heatmaps, cases.boxes, strict=True)]

    def by(key: Callable[[Sample], str]) -> dict[str, Any]:
        values = [key(sample) for sample in cases.samples]
        return {
            value: summarise([one for one, its in zip(found, values, strict=True) if its == value])
            for value in sorted(set(values))
        }

    return {
        **summarise(found),
        "classes": by(lambda sample: sample.label),
        "planes": by(lambda sample: sample.plane or "unknown"),
    }


def _middle(shape: tuple[int, ...]) -> Float32:
    """The same blob in the middle for every slice: what a map would score that had seen no slice at all."""
    rows, columns = ((np.arange(size) + 0.5) / size - 0.5 for size in shape[1:])
    blob = np.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / (2 * _CENTRE**2))
    return np.broadcast_to(blob.astype(np.float32), shape)


def _without_the_box(engine: Engine, cases: Cases) -> dict[str, Any]:
    """The fall of the class's probability when the tumour's box is filled from around it, and when its mirror is."""
    labels = np.array([sample.label for sample in cases.samples])
    rows = np.arange(len(cases.classes))
    falls = {}
    for name in ("tumour", "mirror"):
        pictures = [
            _filled(image, box if name == "tumour" else (1 - box[2], box[1], 1 - box[0], box[3]))
            for image, box in zip(cases.images[..., 0], cases.boxes, strict=True)
        ]
        output = engine.run(np.stack(pictures)[..., np.newaxis]).probabilities
        fall = cases.probabilities - output[rows, cases.classes]
        lost = output.argmax(axis=1) != cases.classes
        falls[name] = {
            "fall": float(fall.mean()),
            "other_class": float(lost.mean()),
            "classes": {
                label: {"fall": float(fall[labels == label].mean()), "other_class": float(lost[labels == label].mean())}
                for label in sorted(set(labels.tolist()))
            },
        }
    return falls


def _filled(image: Float32, box: Bounds) -> Float32:
    """A picture (S, S) with a box filled from its surroundings (Telea, "An Image Inpainting Technique", 2004)."""
    side = len(image)
    left, top, right, bottom = (int(np.clip(round(value * side), 0, side)) for value in box)
    hole = np.zeros(image.shape, np.uint8)
    hole[top:bottom, left:right] = 1
    levels = np.round(image * 255).astype(np.uint8)
    filled = cv2.inpaint(levels, hole, 3, cv2.INPAINT_TELEA)
    return np.where(hole == 1, filled.astype(np.float32) / np.float32(255), image)


def _curves(engine: Engine, cases: Cases, heatmaps: Mapping[str, Float32]) -> dict[str, Any]:
    """Mean probability along deletion and insertion, for each method's order of cells and a random one."""
    side, shape = cases.images.shape[1], cases.heatmaps.shape[1:]
    cells = shape[0] * shape[1]
    rng = np.random.default_rng(_SEED)
    orders = {
        name: np.argsort(-found.reshape(len(found), -1), axis=1, kind="stable") for name, found in heatmaps.items()
    }
    orders["random order"] = np.stack([rng.permutation(cells) for _ in cases.samples])
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), _BLUR * side / 224) for image in cases.images[..., 0]])
    rows = np.arange(len(cases.samples))
    ends: dict[str, Any] = {}
    for name, order in orders.items():
        deletion: list[float] = []
        insertion: list[float] = []
        for step in range(STEPS + 1):
            chosen = np.zeros((len(rows), cells), np.float32)
            np.put_along_axis(chosen, order[:, : round(cells * step / STEPS)], 1, axis=1)
            mask = np.stack(
                [cv2.resize(one.reshape(shape), (side, side), interpolation=cv2.INTER_NEAREST) for one in chosen]
            )
            for target, hot in ((deletion, mask), (insertion, 1 - mask)):
                pictures = cases.images[..., 0] * (1 - hot) + blurred * hot
                said = engine.run(pictures[..., np.newaxis].astype(np.float32)).probabilities
                target.append(float(said[rows, cases.classes].mean()))
        ends[name] = {
            "deletion": deletion,
            "insertion": insertion,
            "deletion_area": float(np.trapezoid(deletion, dx=1 / STEPS)),
            "insertion_area": float(np.trapezoid(insertion, dx=1 / STEPS)),
        }
    return ends


def _random_weights(artefact: Artefact, cases: Cases) -> dict[str, float]:
    """Likeness of Grad-CAM to the served heatmap when weights are made random from the output downwards."""
    found = {}
    for name, prefixes in _RANDOM_FROM.items():
        explainer = Explainer(randomised(artefact, prefixes), finest=1)
        explained = explainer.explain(cases.images)
        rows = min(explained.maps)
        heatmaps = METHODS[SERVED](explained.maps[rows], explained.gradients[rows])
        found[name] = _likeness(cases.heatmaps, heatmaps)
    return found


def _repeatability(artefact: Artefact, engine: Engine, cases: Cases) -> dict[str, dict[str, float]]:
    """Likeness of the served heatmap under shifts and compression, and how often the class stays."""

    def again(change: Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]]) -> dict[str, float]:
        images = [
            prepare(np.asarray(change(picture), np.float32) / 255, artefact.manifest.preprocessing).image
            for picture in cases.pictures
        ]
        output = engine.run(np.stack(images)[..., np.newaxis])
        return {
            "likeness": _likeness(cases.heatmaps, output.heatmaps),
            "same_class": float((output.probabilities.argmax(axis=1) == cases.classes).mean()),
        }

    found = {}
    for right, down in SHIFTS:
        found[f"shift {right}, {down} pixels"] = again(
            lambda picture, by=(down, right): np.roll(picture, by, axis=(0, 1))  # type: ignore[misc]
        )
    for quality in QUALITIES:
        found[f"JPEG quality {quality}"] = again(lambda picture, q=quality: _jpeg(picture, q))  # type: ignore[misc]
    return found


def _jpeg(picture: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[Any]:
    packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE))


def _likeness(ones: Float32, others: Float32) -> float:
    """Mean of Spearman's rank correlation over slices; a map without any variation counts as 0."""
    from scipy.stats import spearmanr

    found = []
    for one, other in zip(ones, others, strict=True):
        flat = one.ravel(), other.ravel()
        found.append(0.0 if np.ptp(flat[0]) == 0 or np.ptp(flat[1]) == 0 else float(spearmanr(*flat).statistic))
    return float(np.mean(found))
