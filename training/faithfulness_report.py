"""What was measured of a model's heatmaps, for people: Markdown, pictures, and the part of the card.

Owns: `python -m training faithfulness`: choosing the part of the data, the files that it writes, and putting the result
into an artefact. Refuses: to measure (`training.faithfulness`). The test part is looked at only when asked for, and each
time is logged.
"""

# ruff: noqa: E501  (the lines of a Markdown template are as long as their values make them)

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from inference import artefact as artefacts
from inference.engines import choose
from training.datasets import read_dataset
from training.errors import DatasetError
from training.faithfulness import Cases, gather, measure
from training.guard_report import log_test
from training.localisation import pointing
from training.markdown import percent, table, with_section
from training.splits import read_split

log = logging.getLogger(__name__)

SECTION: Final = "Where the heatmaps point"
_SHOWN: Final = 8
_SIDE: Final = 224
_MATTERS: Final = 0.1
"""A class whose probability falls by less than this without the tumour is not decided by the tumour."""


def report(
    source: Path,
    data: Path,
    out: Path,
    *,
    split: Path | None = None,
    part: str = "validation",
    most: int = 1000,
    into: Path | None = None,
) -> dict[str, Any]:
    """Measures a model's heatmaps and writes what was found.

    Args:
        source: The artefact.
        data: Folder of its data set, with tumour boxes in the manifest.
        out: Folder for `faithfulness.json`, `faithfulness.md`, `best.png` and `worst.png`.
        split: The split it was trained with; None: `NAME.split.csv` beside `source`.
        part: `validation` or `test`; looking at `test` is logged in `NAME.test-log.jsonl` beside `into`, else in `out`.
        most: Most slices that are measured.
        into: Where to write the artefact with the result in its manifest and card.

    Returns:
        What was measured.

    Raises:
        DatasetError: No rightly classified slice of the part has a box, or data and split do not fit.
        ArtefactError: The artefact cannot be used.
    """
    artefact = artefacts.load(source)
    dataset = read_dataset(data)
    names = set(artefact.manifest.class_names)
    dataset = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.label in names))
    parts = read_split(split or source.with_name(f"{source.stem}.split.csv"), dataset.samples)
    samples = [sample for sample, its in zip(dataset.samples, parts, strict=True) if its == part]
    if part == "test":
        log_test((into or out / source.name).with_suffix(".test-log.jsonl"), artefact, "heatmaps_test_scored_at")
    engine = choose("openvino", artefact, 1)
    cases = gather(artefact, engine, dataset, samples, most)
    if cases is None:
        raise DatasetError(
            f"no slice of the {part} part has a tumour box and is classified rightly; boxes are the columns box_x, box_y, "
            "box_w and box_h of manifest.csv."
        )
    found = {"part": part, "model": artefact.digest, **measure(artefact, engine, cases)}
    engine.close()
    out.mkdir(parents=True, exist_ok=True)
    (out / "faithfulness.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
    (out / "faithfulness.md").write_text(f"# {SECTION}\n\n{section(found)}\n", "utf-8")
    for name, picture in examples(cases).items():
        cv2.imwrite(str(out / f"{name}.png"), picture)
    if into is not None:
        metrics = {**artefact.manifest.metrics, "faithfulness": {key: found[key] for key in found if key != "model"}}
        metrics.pop("localisation", None)
        artefacts.write(
            into,
            replace(artefact.manifest, members={}, guard=None, metrics=metrics),
            artefact.weights(),
            artefact.openvino_xml,
            artefact.openvino_bin,
            with_section(artefact.model_card, SECTION, section(found)),
            artefact.guard,
        )
    return found


def section(found: Mapping[str, Any]) -> str:
    """The part of the card about heatmaps, Markdown without its heading."""
    methods = [
        (name, percent(one["peak_in_box"]), percent(one["peak_by_chance"]), percent(one["energy_in_box"]))
        for name, one in found["pointing"].items()
    ]
    served, box = found["pointing"]["served"], found["box"]
    rows = [
        (
            name,
            one["slices"],
            percent(one["peak_in_box"]),
            percent(one["peak_by_chance"]),
            percent(one["energy_in_box"]),
            percent(one["box_share_of_crop"]),
        )
        for group in ("classes", "planes")
        for name, one in served[group].items()
    ]
    falls = [
        (
            name,
            *(
                percent(box[which]["classes"][name][key])
                for which in ("tumour", "mirror")
                for key in ("fall", "other_class")
            ),
        )
        for name in box["tumour"]["classes"]
    ]
    curves = [
        (name, f"{one['deletion_area']:.3f}", f"{one['insertion_area']:.3f}")
        for name, one in found["curves"].items()
        if name != "slices"
    ]
    likeness = [(name, f"{value:.2f}", "–") for name, value in found["random_weights"].items()]
    likeness = [(f"random weights: {name}", value, other) for name, value, other in likeness]
    likeness += [
        (name, f"{one['likeness']:.2f}", percent(one["same_class"])) for name, one in found["repeatability"].items()
    ]
    untouched = [name for name, one in box["tumour"]["classes"].items() if one["fall"] < _MATTERS]
    verdict = (
        f"**Where a known tumour is removed, the network says {' and '.join(untouched)} as surely as before: it decides by something else "
        "in the slice (what lies around the tumour, the level, the skull base, how the picture was taken), and no heatmap can make it point at the tumour.**"
        if untouched
        else "The probability falls when the tumour is removed: the network decides by it, at least in part."
    )
    best = max(
        (name for name in found["pointing"] if "," in name),
        key=lambda name: float(found["pointing"][name]["peak_in_box"]),
    )
    return f"""{found["slices"]} rightly classified slices of {found["patients"]} patients of the {found["part"]} part, with a known tumour box that training never saw.
Does the heatmap's peak lie in the box (half a grid cell of slack), how much of the heatmap does, and what chance would give (share of grid cells
that would hit; share of the picture in the box), for Grad-CAM as it is served:

{table(("class or plane", "slices", "peak in box", "by chance", "heatmap in box", "by chance"), rows)}

**A heatmap shows where the network looked, not where the tumour is or ends; do not use it to find one.** Where the columns are close, the
network decides by something other than the tumour itself, or the map does not show by what.

Other methods and finer grids, on the same slices ("middle of the picture" has seen no slice at all):

{table(("method and grid", "peak in box", "by chance", "heatmap in box"), methods)}

The best of them here is {best}: {percent(found["pointing"][best]["peak_in_box"])} against {percent(served["peak_in_box"])} of what is served.

Does the tumour matter to the network at all? The tumour's box is filled from its surroundings, and for comparison its mirror image on the other side: mean fall of
the class's probability, and share of slices that change their class:

{table(("class", "tumour removed: fall", "other class", "mirror image removed: fall", "other class"), falls)}

{verdict}

Deletion and insertion ({found["curves"]["slices"]} slices; area under the probability of the class; deletion is better low, insertion high):

{table(("order of the cells", "deletion", "insertion"), curves)}

Likeness to the heatmap that is served (rank correlation; 1 is the same, 0 is unrelated). With random weights it should be near 0, after a small
change of the slice near 1:

{table(("what was changed", "likeness", "same class"), likeness)}"""


def examples(cases: Cases) -> dict[str, npt.NDArray[np.uint8]]:
    """Sheets of the slices whose heatmap lies most and least in the box, the box drawn in; BGR uint8."""
    energy = [pointing(heatmap, box)[2] for heatmap, box in zip(cases.heatmaps, cases.boxes, strict=True)]
    order = np.argsort(energy, kind="stable")
    return {
        "best": _sheet(cases, order[::-1][:_SHOWN]),
        "worst": _sheet(cases, order[:_SHOWN]),
    }


def _sheet(cases: Cases, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    tiles = []
    for place in places:
        grey = cv2.resize(cases.images[place, ..., 0], (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
        heat = np.clip(cv2.resize(cases.heatmaps[place], (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR), 0, 1)
        colour = cv2.applyColorMap(np.round(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO).astype(np.float32)
        share = 0.6 * heat[..., np.newaxis]
        tile = np.round(np.repeat(grey[..., np.newaxis] * 255, 3, axis=2) * (1 - share) + colour * share).astype(
            np.uint8
        )
        x0, y0, x1, y1 = (int(np.clip(round(value * _SIDE), 0, _SIDE - 1)) for value in cases.boxes[place])
        cv2.rectangle(tile, (x0, y0), (x1, y1), (255, 255, 255), 1)
        tiles.append(tile)
    tiles += [np.zeros((_SIDE, _SIDE, 3), np.uint8)] * (-len(tiles) % 4)
    return np.vstack([np.hstack(tiles[at : at + 4]) for at in range(0, len(tiles), 4)])
