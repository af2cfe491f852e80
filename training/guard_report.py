"""What a guard does, measured: to slices it should let through, and to pictures it should not.

Owns: the numbers, the part of the model card that tells them, and `python -m training guard`, which puts a guard into an
artefact. Refuses: to fit (`training.guard`). The test part is looked at only when asked for, and each time is logged.
"""

# ruff: noqa: E501  (the lines of a Markdown template are as long as their values make them)

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference import artefact as artefacts
from inference.artefact import Artefact
from inference.engines import Engine, choose
from inference.guard import Abstention, Guard
from training import calibration, strangers
from training.card import CALIBRATION, calibration_section
from training.datasets import Dataset, Sample, read_dataset
from training.guard import COVERAGE, Seen, fit, grey, see
from training.markdown import percent, table, with_section
from training.reference import reference
from training.resampling import draw, interval
from training.scoring import weights_digest
from training.splits import read_split
from training.strangers import DEVELOPMENT, HELD_BACK, Stranger

log = logging.getLogger(__name__)

SECTION: Final = "When it does not answer"
TOLD_IF_IT_CAN_BE: Final = frozenset({"upside_down", "on_its_side"})
"""Kinds that are still slices of a head: named in the report, left out of its total."""

_ALTERED: Final = 60
_RESAMPLES: Final = 2000
_CURVE: Final = (1.0, 0.99, 0.98, 0.97, 0.95, 0.9, 0.8, 0.7, 0.5)


def add_guard(
    source: Path,
    data: Path,
    target: Path,
    *,
    split: Path | None = None,
    foreign: Sequence[Path] = (),
    coverage: float = COVERAGE,
    test: bool = False,
) -> str:
    """Fits a guard, measures it, and writes the artefact again with it.

    Args:
        source: The artefact; a guard that it has is replaced.
        data: Folder of the data set it was trained on.
        target: The new artefact; ends in `.neurosight`.
        split: The split it was trained with; None: `NAME.split.csv` beside `source`.
        foreign: Folders of further pictures that are no brain MRI, for the held-back set.
        coverage: See `training.guard.fit`.
        test: Whether to measure on the test part and the held-back strangers too, and the calibration of both parts;
            logged in `NAME.test-log.jsonl` beside `target`.

    Returns:
        The new digest.

    Raises:
        ArtefactError: The artefact cannot be used.
        DatasetError: Data or split do not fit.
    """
    artefact = artefacts.load(source)
    dataset = read_dataset(data)
    names = set(artefact.manifest.class_names)
    dataset = Dataset(dataset.root, tuple(sample for sample in dataset.samples if sample.label in names))
    parts = read_split(split or source.with_name(f"{source.stem}.split.csv"), dataset.samples)
    of = {
        part: [s for s, p in zip(dataset.samples, parts, strict=True) if p == part]
        for part in ("train", "validation", "test")
    }
    engine = choose("openvino", artefact, 1)
    guard, seen = fit(artefact, engine, dataset, of["train"], of["validation"], coverage)
    shipped = list(strangers.shipped_with_packages())
    sets: list[Iterable[Stranger]] = [
        strangers.drawn(DEVELOPMENT),
        strangers.altered(_some(dataset, of["validation"])),
        shipped,
    ]
    record: dict[str, Any] = {
        "fitted_at": _now(),
        "validation": measure(artefact, guard, seen, of["validation"]),
        "reference": reference(artefact, guard, seen),
        DEVELOPMENT: count_strangers(artefact, engine, guard, chain(*sets)),
    }
    metrics = dict(artefact.manifest.metrics)
    card = artefact.model_card
    if test:
        log_test(target.with_suffix(".test-log.jsonl"), artefact, "guard_test_scored_at")
        sets = [
            strangers.drawn(HELD_BACK),
            strangers.altered(_some(dataset, of["test"])),
            strangers.of_folders(foreign, "other_packages", shipped),
        ]
        seen_test = see(artefact, engine, grey(dataset, of["test"]))
        record["test"] = measure(artefact, guard, seen_test, of["test"])
        metrics["calibration"] = {
            "temperature": artefact.manifest.temperature,
            "bins": calibration.BINS,
            "validation": calibrated(artefact, seen, of["validation"]),
            "test": calibrated(artefact, seen_test, of["test"]),
        }
        card = with_section(card, CALIBRATION, calibration_section(metrics["calibration"]))
        record[HELD_BACK] = count_strangers(artefact, engine, guard, chain(*sets))
    engine.close()
    guard = replace(guard, record=record)
    card = with_section(card, SECTION, section(guard))
    manifest = replace(artefact.manifest, members={}, guard=None, metrics=metrics)
    return artefacts.write(
        target, manifest, artefact.weights(), artefact.openvino_xml, artefact.openvino_bin, card, guard
    )


def judge_all(guard: Guard, seen: Seen) -> tuple[list[Abstention | None], npt.NDArray[np.float64]]:
    """For each picture why the model abstains, if it does; and its largest measure, float64 (n)."""
    judged = [
        guard.judge(features, float(probabilities.max()), float(border), blank=bool(blank))
        for features, probabilities, border, blank in zip(
            seen.features, seen.probabilities, seen.borders, seen.blanks, strict=True
        )
    ]
    return [one.abstention for one in judged], np.array([max(one.measures.values()) for one in judged])


def measure(artefact: Artefact, guard: Guard, seen: Seen, samples: Sequence[Sample]) -> dict[str, Any]:
    """What the guard does to labelled slices of one part: coverage, and how right the answers are with it and without.

    Returns:
        JSON values; shares with intervals over patients, and `curve`: of the share of slices with the least largest
        measure (coverage), how many predictions are wrong (risk).
    """
    names = artefact.manifest.class_names
    abstentions, worst = judge_all(guard, seen)
    labels = np.array([names.index(sample.label) for sample in samples])
    right = seen.probabilities.argmax(axis=1) == labels
    answers = np.array([abstention is None for abstention in abstentions])
    weights = draw(labels, [sample.patient for sample in samples], _RESAMPLES, 2026)
    order = np.argsort(worst, kind="stable")
    planes = np.array([sample.plane or "unknown" for sample in samples])
    with np.errstate(invalid="ignore"):
        return {
            "slices": len(samples),
            "coverage": interval(weights @ answers / weights.sum(axis=1)),
            "accuracy_of_all": interval(weights @ right / weights.sum(axis=1)),
            "accuracy_of_answers": interval(weights @ (right & answers) / (weights @ answers)),
            "reasons": {str(name): abstentions.count(name) for name in Abstention if name in abstentions},
            "classes": {
                name: float(answers[labels == i].mean()) for i, name in enumerate(names) if (labels == i).any()
            },
            "planes": {name: float(answers[planes == name].mean()) for name in sorted(set(planes.tolist()))},
            "curve": [
                {"coverage": share, "risk": float(1 - right[order[: max(1, round(share * len(order)))]].mean())}
                for share in _CURVE
            ],
        }


def calibrated(artefact: Artefact, seen: Seen, samples: Sequence[Sample]) -> dict[str, Any]:
    """The calibration error of one part with its intervals over patients, and the reliability diagram."""
    labels = np.array([artefact.manifest.class_names.index(sample.label) for sample in samples])
    weights = draw(labels, [sample.patient for sample in samples], _RESAMPLES, 2026)
    return calibration.report(seen.scores, labels, weights, artefact.manifest.temperature)


def count_strangers(artefact: Artefact, engine: Engine, guard: Guard, found: Iterable[Stranger]) -> dict[str, Any]:
    """How many foreign pictures of each kind the model does not answer; the total without `TOLD_IF_IT_CAN_BE`."""
    pictures = list(found)
    abstentions, _ = judge_all(guard, see(artefact, engine, (stranger.pixels for stranger in pictures)))
    kinds: dict[str, dict[str, Any]] = {}
    for stranger, abstention in zip(pictures, abstentions, strict=True):
        kind = kinds.setdefault(stranger.kind, {"pictures": 0, "abstained": 0, "answered": []})
        kind["pictures"] += 1
        kind["abstained"] += abstention is not None
        if abstention is None and stranger.kind not in TOLD_IF_IT_CAN_BE:
            kind["answered"].append(stranger.name)
    counted = [kind for name, kind in kinds.items() if name not in TOLD_IF_IT_CAN_BE]
    total = {key: sum(kind[key] for kind in counted) for key in ("pictures", "abstained")}
    return {"total": total, "kinds": kinds}


def section(guard: Guard) -> str:
    """The part of the card about the guard, Markdown without its heading."""
    record = guard.record
    parts = [name for name in ("validation", "test") if name in record]
    rows = [
        (
            name,
            record[name]["slices"],
            *(_with_interval(record[name][key]) for key in ("coverage", "accuracy_of_all", "accuracy_of_answers")),
            ", ".join(f"{reason} {count}" for reason, count in record[name]["reasons"].items()) or "–",
        )
        for name in parts
    ]
    curve = [
        (percent(point["coverage"]), *(percent(record[name]["curve"][place]["risk"]) for name in parts))
        for place, point in enumerate(record[parts[0]]["curve"])
    ]
    sets = [name for name in (DEVELOPMENT, HELD_BACK) if name in record]
    kinds = list(dict.fromkeys(kind for name in sets for kind in record[name]["kinds"]))
    foreign = [
        (kind.replace("_", " "), *(_counted(record[name]["kinds"].get(kind)) for name in sets)) for kind in kinds
    ]
    foreign.append(("**all but turned ones**", *(f"**{_counted(record[name]['total'])}**" for name in sets)))
    return f"""The model carries a guard. It does not answer when no head is found in a picture, when the picture's edge is bright (inverted pictures,
text, photographs), when the slice seems turned, when its features lie far from those of all training slices, or when the calibrated
probability is low. Limits were chosen on the validation part so that {percent(guard.coverage)} of its slices are answered; no foreign picture was used to
fit anything. Shares with 95 % intervals over patients:

{table(("part", "slices", "answered", "right, of all", "right, of those answered", "why not"), rows)}

Which share of slices is answered, and how many of those predictions are wrong (slices that lie farthest beyond a limit go first):

{table(("answered", *(f"wrong, {name}" for name in parts)), curve)}

Foreign pictures that were **not** answered. The development set was looked at while the guard was written; the held-back set was not, and comes from
other packages, other seeds, further kinds and test slices:

{table(("kind", *(name.replace("_", " ") for name in sets)), foreign)}

A slice that lies on its side or upside down is still one of a head; it is told when it can be. **What the guard lets through is not thereby
right**: it knows nothing of lesions that the model was not trained on, and MRI of a brain with another disease looks like brain MRI to it."""


def _with_interval(found: Mapping[str, Any]) -> str:
    return f"{percent(found['value'])} ({percent(found['low'])} to {percent(found['high'])})"


def _counted(kind: Mapping[str, int] | None) -> str:
    return "–" if kind is None else f"{kind['abstained']} of {kind['pictures']}"


def _some(dataset: Dataset, samples: Sequence[Sample]) -> list[tuple[str, npt.NDArray[np.float32]]]:
    rng = np.random.default_rng(5)
    chosen = [samples[i] for i in rng.choice(len(samples), min(_ALTERED, len(samples)), replace=False)]
    return [(sample.file, picture) for sample, picture in zip(chosen, grey(dataset, chosen), strict=True)]


def log_test(path: Path, artefact: Artefact, what: str) -> None:
    """Writes down that the test part was looked at.

    Args:
        path: Log with a JSON object a line.
        artefact: The model.
        what: Name of the entry that holds the time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {what: _now(), "weights_sha256": weights_digest(artefact.weights())}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
