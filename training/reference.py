"""What a model's answers look like on the slices that chose it: the reference against which use is watched.

Owns the form of `reference` in a guard's record (read by `db.queries.drift`): how often each answer was given, and for
each watched number the bounds of about ten equally full bins and how many slices fell into each. Refuses to hold
slices or patients, and to look at the test part.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.artefact import Artefact
from inference.guard import Guard
from training.guard import Seen

ABSTAINED: Final = "abstained"
"""The answer of a slice that the guard keeps back."""
_BINS: Final = 10


def reference(artefact: Artefact, guard: Guard, seen: Seen) -> dict[str, Any]:
    """The reference of a model.

    Args:
        artefact: The model.
        guard: With its limits.
        seen: What the model said of the validation slices.

    Returns:
        `slices`: their number. `answers`: class, or `abstained` -> number of slices. `measures`: `probability` (of the
        prediction, calibrated), `distance` and `border` (as shares of the guard's limits) -> `edges` (upper bounds of
        all bins but the last, increasing, a value on a bound belongs below it) and `counts` (one more than edges).
    """
    names = artefact.manifest.class_names
    answers: dict[str, int] = dict.fromkeys([*names, ABSTAINED], 0)
    measures: dict[str, list[float]] = {"probability": [], "distance": [], "border": []}
    for features, probabilities, border, blank in zip(
        seen.features, seen.probabilities, seen.borders, seen.blanks, strict=True
    ):
        probability = float(probabilities.max())
        judged = guard.judge(features, probability, float(border), blank=bool(blank))
        answers[ABSTAINED if judged.abstention else names[int(probabilities.argmax())]] += 1
        measures["probability"].append(probability)
        measures["distance"].append(judged.measures["distance"])
        measures["border"].append(judged.measures["border"])
    binned = {name: _binned(np.array(values)) for name, values in measures.items()}
    return {"slices": len(seen.blanks), "answers": answers, "measures": binned}


def _binned(values: npt.NDArray[np.float64]) -> dict[str, list[Any]]:
    # Equal neighbours share a bin: most pictures have a border of exactly zero.
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1], method="lower"))
    edges = edges[edges < values.max()]
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]}
