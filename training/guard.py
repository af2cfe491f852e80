"""Fitting a guard for a finished model.

Owns: the features of a data set's slices under an artefact, the class means and covariance of the training part, the
regression that tells turned slices, and the limits, which come from the validation part alone. Refuses: to look at the
test part (`training.guard_report` does, once and logged), to learn anything from foreign pictures: a guard that was
fitted to the strangers at hand knows those, not the next ones.

See `inference.guard` for the checks and their sources. Shrinkage, rank and the square root were chosen on the
development set of `training.strangers`, at the limits that validation slices gave.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imaging.preprocess import prepare
from inference.artefact import Artefact
from inference.engines import Engine
from inference.guard import Guard, Limits, border_level, roots_of
from training.datasets import Dataset, Sample, read_each
from training.errors import DatasetError

Float32 = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]

COVERAGE: Final = 0.985
"""Share of validation slices that a guard lets through unless told otherwise. Above the 97 % that are wanted of new
brain slices, because limits look better on the slices that they were chosen on."""
BORDER_LIMIT: Final = 0.5
"""Half the way from the darkest to the brightest: fixed, not fitted. No edge of the training slices comes near it."""

_RANK: Final = 128
_SHRINKAGE: Final = 0.1
_TURNED_SLICES: Final = 900
_TURNED_C: Final = 1e-3
_LEAST_SLICES: Final = 16
_SEED: Final = 2026
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What an engine said of n pictures.

    Attributes:
        features: float32 (n, c).
        scores: float32 (n, k), before softmax or sigmoid.
        probabilities: float32 (n, K), calibrated.
        borders: float64 (n), of `border_level`.
        blanks: bool (n).
    """

    features: Float32
    scores: Float32
    probabilities: Float32
    borders: npt.NDArray[np.float64]
    blanks: npt.NDArray[np.bool_]


def see(artefact: Artefact, engine: Engine, pictures: Iterable[Float32]) -> Seen:
    """Runs a model on pictures exactly as in use.

    Args:
        artefact: The model.
        engine: For it.
        pictures: Grey float32 (h, w), range [0, 1]; at least one.
    """
    outputs, borders, blanks, waiting = [], [], [], []
    for pixels in pictures:
        prepared = prepare(pixels, artefact.manifest.preprocessing)
        borders.append(border_level(pixels))
        blanks.append(prepared.blank)
        waiting.append(prepared.image)
        if len(waiting) == _AT_ONCE:
            outputs.append(engine.run(np.stack(waiting)[..., np.newaxis]))
            waiting = []
    if waiting:
        outputs.append(engine.run(np.stack(waiting)[..., np.newaxis]))
    return Seen(
        np.concatenate([output.features for output in outputs]),
        np.concatenate([output.scores for output in outputs]),
        np.concatenate([output.probabilities for output in outputs]),
        np.array(borders),
        np.array(blanks, bool),
    )


def grey(dataset: Dataset, samples: Sequence[Sample]) -> Iterable[Float32]:
    """The pictures of samples, float32 (h, w), range [0, 1]."""
    return (np.asarray(picture, np.float32) / np.float32(255) for picture in read_each(dataset, samples))


def fit(
    artefact: Artefact,
    engine: Engine,
    dataset: Dataset,
    train: Sequence[Sample],
    validation: Sequence[Sample],
    coverage: float = COVERAGE,
) -> tuple[Guard, Seen]:
    """Fits a guard.

    Args:
        artefact: The model.
        engine: For it.
        dataset: Where the slices lie.
        train: The samples that the model was trained on.
        validation: Those that chose it.
        coverage: Share of validation slices to be let through, above 0.5 and below 1.

    Returns:
        The guard, without a record, and what the model said of the validation slices.

    Raises:
        DatasetError: If a class has too few slices in the training part.
    """
    labels = np.array([artefact.manifest.class_names.index(sample.label) for sample in train])
    for index, name in enumerate(artefact.manifest.class_names):
        if (labels == index).sum() < _LEAST_SLICES:
            raise DatasetError(
                f"the training part has {(labels == index).sum()} slices of {name}; a guard needs at least "
                f"{_LEAST_SLICES} of each class of the model."
            )
    upright = roots_of(see(artefact, engine, grey(dataset, train)).features)
    seen = see(artefact, engine, grey(dataset, validation))
    means, directions, scales = _space(upright, labels)
    rng = np.random.default_rng(_SEED)
    some = [train[i] for i in rng.choice(len(train), min(_TURNED_SLICES, len(train)), replace=False)]
    turned = roots_of(see(artefact, engine, _turned(grey(dataset, some))).features)
    guard = Guard(directions, means, scales, _regression(upright, turned), Limits(1, 1, 1, 1), coverage, {})
    # Three checks share what may be refused; the fourth, the border, refuses no slice of the data set.
    share = 1 - (1 - coverage) / 3
    limits = Limits(
        border=BORDER_LIMIT,
        turned=_upper(guard.turned_scores(seen.features), share),
        distance=_upper(guard.distances(seen.features), share),
        doubt=_upper(1 - seen.probabilities.max(axis=1), share),
    )
    return Guard(directions, means, scales, guard.turned, limits, coverage, {}), seen


def _space(roots: Float32, labels: Int) -> tuple[Float32, Float32, Float32]:
    """Means (k, c), directions (c, r) and scales (r + 1) of the training slices' square roots (n, c)."""
    means = np.stack([roots[labels == index].mean(axis=0, dtype=np.float64) for index in range(labels.max() + 1)])
    rest = roots - means[labels]
    values, vectors = np.linalg.eigh(rest.T @ rest / len(rest))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    shrunk = (1 - _SHRINKAGE) * values + _SHRINKAGE * values.mean()
    rank = min(_RANK, len(values) - 1)
    scales = np.append(shrunk[:rank], shrunk[rank:].mean())
    return means.astype(np.float32), vectors[:, :rank].astype(np.float32), scales.astype(np.float32)


def _turned(pictures: Iterable[Float32]) -> Iterable[Float32]:
    """Each picture upside down, and on either side."""
    for picture in pictures:
        for turned in (picture[::-1], np.rot90(picture), np.rot90(picture, 3)):
            yield np.ascontiguousarray(turned)


def _regression(upright: Float32, turned: Float32) -> Float32:
    """Weights on the square roots, and the constant, (c + 1): above 0 speaks for turned."""
    from sklearn.linear_model import LogisticRegression

    middle, spread = upright.mean(axis=0), upright.std(axis=0) + 1e-3
    both = (np.concatenate([upright, turned]) - middle) / spread
    truth = np.repeat([0, 1], [len(upright), len(turned)])
    found: Any = LogisticRegression(C=_TURNED_C, max_iter=500).fit(both, truth)
    weights = found.coef_[0] / spread
    return np.append(weights, found.intercept_[0] - weights @ middle).astype(np.float32)


def _upper(values: npt.NDArray[Any], share: float) -> float:
    """A limit that lets at least a share of values through; halfway to the next one, where there is one."""
    ordered = np.sort(values.astype(np.float64))
    last = min(int(np.ceil(share * len(ordered))), len(ordered)) - 1
    above = ordered[min(last + 1, len(ordered) - 1)]
    return float((ordered[last] + above) / 2)
