"""How far the class can be told without looking at the brain.

Owns: probes, small classifiers that see only file properties, the border or the histogram of a picture, and their
score under cross-validation by group. Refuses: to make the number look better: what a probe can tell, a network can
abuse, and the model card says so.

Source of the idea: Geirhos et al., "Shortcut learning in deep neural networks", Nature Machine Intelligence 2020. A
probe before the normalisation shows what the collections give away; the same probe after it shows what is left.
"""

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from imaging.preprocess import Preprocessing, prepare
from training.datasets import Dataset, Sample, read_grey

Float32 = npt.NDArray[np.float32]

_SIDE: Final = 64
_BORDER: Final = 4
_BINS: Final = 32
_TREES: Final = 200


def file_features(dataset: Dataset, sample: Sample) -> Float32:
    """What the file says without its content: height, width, ratio of the sides, bytes a pixel. float32 (4)."""
    path = dataset.root / sample.file
    height, width = read_grey(path).shape
    return np.array([height, width, width / height, path.stat().st_size / (height * width)], np.float32)


def border_features(picture: Float32) -> Float32:
    """The outermost pixels of a picture, made small.

    Args:
        picture: float32 (h, w), range [0, 1].

    Returns:
        float32: the frame of 4 pixels of the picture at 64 x 64.
    """
    small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    inner = np.zeros((_SIDE, _SIDE), bool)
    inner[_BORDER:-_BORDER, _BORDER:-_BORDER] = True
    return np.asarray(small[~inner], np.float32)


def histogram_features(picture: Float32) -> Float32:
    """Shares of 32 intensity levels of a picture (h, w) in [0, 1]: float32 (32)."""
    counts, _ = np.histogram(picture, bins=_BINS, range=(0, 1))
    return np.asarray(counts / picture.size, np.float32)


def sharpness_features(picture: Float32) -> Float32:
    """How much detail there is at four scales, whatever it shows: float32 (4), logarithms of the mean square."""
    found = []
    for _ in range(4):
        smooth = cv2.GaussianBlur(picture, (0, 0), 1.0)
        found.append(np.log(float(np.square(picture - smooth).mean()) + 1e-8))
        picture = np.asarray(cv2.resize(smooth, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)
    return np.array(found, np.float32)


def probe(
    features: npt.NDArray[np.floating[Any]], positive: npt.NDArray[np.bool_], groups: Sequence[int], seed: int
) -> float:
    """Area under the ROC curve of a forest of trees on these features, by five-fold cross-validation over groups.

    Args:
        features: (n, f).
        positive: bool (n).
        groups: Group of each slice; a group is never on both sides.
        seed: Of forest and folds.

    Returns:
        0.5 when nothing can be told, 1 when everything can.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    forest = ExtraTreesClassifier(_TREES, class_weight="balanced", min_samples_leaf=2, random_state=seed, n_jobs=1)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    said = cross_val_predict(forest, features, positive, groups=groups, cv=folds, method="predict_proba")
    return float(roc_auc_score(positive, said[:, 1]))


def probe_sources(
    dataset: Dataset,
    rows: Sequence[int],
    groups: Sequence[int],
    preprocessing: Preprocessing,
    negative_label: str = "no_tumor",
    seed: int = 2026,
) -> dict[str, dict[str, float]]:
    """Probe how well slices without tumour are told from the others without seeing the brain.

    Args:
        dataset: The slices.
        rows: Which of them; never those of the test part.
        groups: Group of each of these rows.
        preprocessing: The normalisation to judge.
        negative_label: The class from the other collection.
        seed: Of forests and folds.

    Returns:
        `before` and `after` the normalisation: the area under the ROC curve of each probe. `file` exists only before:
        every prepared picture has one size and no file. `after_axial`, where planes are known, leaves out the coronal
        and sagittal slices: the other collection has hardly any, so the plane alone tells much.
    """
    columns: dict[str, dict[str, list[Float32]]] = {
        "before": {"file": [], "border": [], "histogram": [], "sharpness": []},
        "after": {"border": [], "histogram": [], "sharpness": []},
    }
    for row in rows:
        sample = dataset.samples[row]
        picture: Float32 = np.asarray(read_grey(dataset.root / sample.file), np.float32) / np.float32(255)
        columns["before"]["file"].append(file_features(dataset, sample))
        for stage, seen in (("before", picture), ("after", prepare(picture, preprocessing).image)):
            columns[stage]["border"].append(border_features(seen))
            columns[stage]["histogram"].append(histogram_features(seen))
            columns[stage]["sharpness"].append(sharpness_features(seen))
    positive = np.array([dataset.samples[row].label == negative_label for row in rows])
    stacked = {stage: {name: np.stack(found) for name, found in kinds.items()} for stage, kinds in columns.items()}
    results = {
        stage: {name: probe(features, positive, groups, seed) for name, features in kinds.items()}
        for stage, kinds in stacked.items()
    }
    planes = np.array([dataset.samples[row].plane for row in rows])
    axial = (planes == "axial") | positive & (planes == "")
    if (axial & ~positive).any() and not axial.all():
        kept = [group for group, keep in zip(groups, axial, strict=True) if keep]
        results["after_axial"] = {
            name: probe(features[axial], positive[axial], kept, seed) for name, features in stacked["after"].items()
        }
    return results
