"""Which slices of a data set a scenario uses.

Owns: choosing by class and plane, and plain words when nothing is left. Refuses: to read pictures and to split.
"""

from collections import Counter
from difflib import get_close_matches

from training.datasets import Dataset
from training.errors import DatasetError
from training.scenario import Scenario


def select(scenario: Scenario, dataset: Dataset) -> Dataset:
    """The slices of the scenario's classes and planes, in their order.

    Args:
        scenario: `class_names`, and `planes`; without planes every slice counts, also those of unknown plane.
        dataset: A data set; other classes are left out.

    Raises:
        DatasetError: The data set has one class, lacks one of the scenario's, or has none of its slices in the planes.
    """
    counts = Counter(sample.label for sample in dataset.samples)
    if len(counts) == 1:
        raise DatasetError(
            f"The data set has one class, {next(iter(counts))} ({len(dataset.samples)} slices); a classifier needs two "
            "or more. Add a folder for each class, or check the label column of manifest.csv.",
            "one_class",
        )
    there = ", ".join(f"{label} ({count})" for label, count in sorted(counts.items()))
    for name in scenario.class_names:
        if name not in counts:
            near = get_close_matches(name, counts, 1, 0.5)
            hint = f" Did you mean {near[0]}? Rename it in the data set or in class_names." if near else ""
            raise DatasetError(
                f"The data set has no class {name!r}, which the scenario names; it has {there}.{hint}", "unknown_class"
            )
    chosen = [
        sample
        for sample in dataset.samples
        if sample.label in scenario.class_names and (not scenario.planes or sample.plane in scenario.planes)
    ]
    for name in scenario.class_names:
        if not any(sample.label == name for sample in chosen):
            planes = Counter(sample.plane or "unknown" for sample in dataset.samples if sample.label == name)
            found = ", ".join(f"{plane} ({count})" for plane, count in sorted(planes.items()))
            raise DatasetError(
                f"No slice of {name!r} is {' or '.join(scenario.planes)}, the scenario's planes; its slices are "
                f"{found}. Name other planes, or none for all.",
                "no_plane",
            )
    return Dataset(dataset.root, tuple(chosen))
