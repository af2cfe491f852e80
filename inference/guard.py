"""The guard: when a model had better not answer.

Owns: the checks of one slice, the numbers they give, the limits they are held to, and the form in which all that
travels in an artefact (`guard.npz` for the arrays, `guard` in the manifest for the rest). Refuses: to fit anything
(`training.guard` does, limits from validation slices alone), to change a prediction, to judge for a model that has no
guard.

Four checks, in this order; each is expressed as a share of its limit, so that above 1 means "do not answer":

* `border`: median grey level of the picture's edge over the range of the picture. Around a head there is air, which is
  black; inverted pictures, pages of text and many photographs have a bright edge. (A picture in which no head is found
  at all is `blank`.)
* `turned`: how sure a logistic regression on the features is that the slice lies on its side or upside down.
* `distance`: how far the features lie from those of the nearest class of the training slices (below).
* `doubt`: one minus the calibrated probability of the prediction.

The distance is that of Mahalanobis with one covariance for all classes and shrinkage (Lee et al., "A Simple Unified
Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018, equation 2; Ledoit and Wolf,
"A well-conditioned estimator for large-dimensional covariance matrices", 2004). With x = sqrt(features), which evens
out the few channels that dominate, mu_k the mean of class k, u_j and s_j the first r eigenvectors and (shrunk)
eigenvalues of the covariance, and s the mean of the other eigenvalues:

    d^2 = min_k  sum_{j<=r} (u_j . (x - mu_k))^2 * (1 / s_j - 1 / s)  +  |x - mu_k|^2 / s

which costs one product with a (c, r) matrix in place of one with (c, c).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from inference.errors import ArtefactError

Float32 = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[np.floating[Any]]]

_ARRAYS: Final = ("directions", "means", "scales", "turned")
_SMALL: Final = 64
_EDGE: Final = 2
"""`border_level` looks at a picture of `_SMALL` pixels square, and of that at so many along each side."""


class Abstention(StrEnum):
    """Why a model does not answer."""

    BLANK = "blank"
    BRIGHT_BORDER = "bright_border"
    UNLIKE_TRAINING = "unlike_training"
    TURNED = "turned"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the checks; beyond one of them the model does not answer.

    Attributes:
        border: Level of the edge, 0 to 1.
        turned: Score of the logistic regression (before the sigmoid).
        distance: d, in the units of the formula above; > 0.
        doubt: One minus the probability; > 0, at most 1.
    """

    border: float
    turned: float
    distance: float
    doubt: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the guard says of one slice.

    Attributes:
        abstention: Why the model should not answer; None when it may.
        measures: Check -> its number as a share of its limit; above 1 is too much. Empty without a guard.
    """

    abstention: Abstention | None
    measures: Mapping[str, float]


NO_GUARD: Final = Judgement(None, {})
"""Of a model without a guard: it always answers."""


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """A fitted guard; c is the number of features, k that of classes.

    Attributes:
        directions: u, float32 (c, r), columns of length 1.
        means: mu, float32 (k, c), of the square roots of the features.
        scales: float32 (r + 1): s_1 ... s_r, and s of the rest.
        turned: float32 (c + 1): weights of the logistic regression on the square roots, and its constant.
        limits: Of the checks.
        coverage: The share of validation slices that the limits were chosen to let through.
        record: How it was fitted and what was measured, any JSON.
    """

    directions: Float32
    means: Float32
    scales: Float32
    turned: Float32
    limits: Limits
    coverage: float
    record: Mapping[str, Any]
    _centres: Float32 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Projects the means once, not for every slice."""
        object.__setattr__(self, "_centres", self.means @ self.directions)

    def distances(self, features: Float32) -> npt.NDArray[np.float64]:
        """d of features (n, c); float64 (n)."""
        roots = roots_of(features)
        inner, rest = self.scales[:-1], float(self.scales[-1])
        along = ((roots @ self.directions)[:, np.newaxis, :] - self._centres).astype(np.float64)
        away = roots[:, np.newaxis, :] - self.means
        squares = along**2 @ (1 / inner - 1 / rest) + np.einsum("nkc,nkc->nk", away, away, dtype=np.float64) / rest
        return np.asarray(np.sqrt(np.maximum(squares, 0).min(axis=1)))

    def turned_scores(self, features: Float32) -> npt.NDArray[np.float64]:
        """The regression's scores, before the sigmoid, of features (n, c); float64 (n)."""
        return np.asarray(roots_of(features) @ self.turned[:-1] + self.turned[-1], np.float64)

    def judge(self, features: Float32, probability: float, border: float, *, blank: bool) -> Judgement:
        """Judges one slice.

        Args:
            features: Pooled features, float32 (c).
            probability: Calibrated, of the prediction.
            border: Of `border_level`.
            blank: Whether no head was found.
        """
        limits, row = self.limits, features[np.newaxis]
        measures = {
            "border": border / limits.border,
            "turned": _sigmoid(float(self.turned_scores(row)[0])) / _sigmoid(limits.turned),
            "distance": float(self.distances(row)[0]) / limits.distance,
            "doubt": (1.0 - probability) / limits.doubt,
        }
        if blank:
            return Judgement(Abstention.BLANK, measures)
        for name, abstention in _BY_CHECK.items():
            if measures[name] > 1:
                return Judgement(abstention, measures)
        return Judgement(None, measures)

    def arrays(self) -> Arrays:
        """What goes into `guard.npz`."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def to_json(self) -> dict[str, Any]:
        """What goes into the manifest."""
        return {"limits": asdict(self.limits), "coverage": self.coverage, "record": dict(self.record)}


_BY_CHECK: Final = {
    "border": Abstention.BRIGHT_BORDER,
    "distance": Abstention.UNLIKE_TRAINING,
    "turned": Abstention.TURNED,
    "doubt": Abstention.UNSURE,
}


def roots_of(features: Float32) -> Float32:
    """Square roots of features, which evens out the few that dominate; what is below zero counts as zero."""
    return np.asarray(np.sqrt(np.maximum(features, 0)), np.float32)


def border_level(pixels: npt.NDArray[np.floating[Any]]) -> float:
    """Median level of a picture's edge, from 0 (as dark as its darkest percent) to 1 (as bright as its brightest).

    Args:
        pixels: Grey (h, w), finite.
    """
    small = cv2.resize(np.asarray(pixels, np.float32), (_SMALL, _SMALL), interpolation=cv2.INTER_NEAREST)
    levels = np.sort(small[::2, ::2], axis=None)
    low, high = float(levels[levels.size // 100]), float(levels[-1 - levels.size // 100])
    if high <= low:
        return 0.0
    sides = (small[:_EDGE], small[-_EDGE:], small[:, :_EDGE], small[:, -_EDGE:])
    edges = np.sort(np.concatenate([side.ravel() for side in sides]))
    return min(max((float(edges[edges.size // 2]) - low) / (high - low), 0.0), 1.0)


def from_artefact(arrays: Arrays, facts: Mapping[str, Any], classes: int, channels: int) -> Guard:
    """Puts a guard together again.

    Args:
        arrays: Of `guard.npz`.
        facts: `guard` of the manifest.
        classes: Number of the model's classes.
        channels: Number of its features.

    Raises:
        ArtefactError: If an array is missing or of the wrong shape, or a limit is out of range.
    """
    if set(arrays) != set(_ARRAYS):
        raise ArtefactError(f"guard.npz holds {sorted(arrays)}; expected {sorted(_ARRAYS)}.")
    rank = arrays["scales"].size - 1
    expected = {
        "directions": (channels, rank),
        "means": (classes, channels),
        "scales": (rank + 1,),
        "turned": (channels + 1,),
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape or rank < 1:
            raise ArtefactError(f"guard.npz: {name} has shape {arrays[name].shape}; expected {shape}.")
    if not (arrays["scales"] > 0).all():
        raise ArtefactError("guard.npz: scales holds values that are not above 0; fit the guard again.")
    check_facts(facts)
    single = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    return Guard(
        limits=Limits(**facts["limits"]),
        coverage=float(facts["coverage"]),
        record=facts["record"],
        directions=single["directions"],
        means=single["means"],
        scales=single["scales"],
        turned=single["turned"],
    )


def check_facts(facts: Mapping[str, Any]) -> None:
    """Checks what a manifest says of a guard.

    Raises:
        ArtefactError: Naming what is missing or out of range.
    """
    if set(facts) != {"limits", "coverage", "record"} or not isinstance(facts["record"], dict):
        raise ArtefactError(f"manifest.json: guard holds {sorted(facts)}; expected limits, coverage and record.")
    limits = facts["limits"]
    if not isinstance(limits, dict) or set(limits) != set(Limits.__dataclass_fields__):
        raise ArtefactError(
            f"manifest.json: guard.limits is {limits!r:.200}; expected border, turned, distance, doubt."
        )
    for name, value in {**limits, "coverage": facts["coverage"]}.items():
        number = type(value) in (int, float) and math.isfinite(value)
        if not number or (name != "turned" and value <= 0) or (name not in ("turned", "distance") and value > 1):
            raise ArtefactError(
                f"manifest.json: {name} of the guard is {value!r}; expected a number above 0 (border, doubt and "
                "coverage at most 1; turned any)."
            )


def _sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-min(max(score, -700.0), 700.0)))
