"""The weights that a run starts from.

Owns: filling a built network as the scenario's `weights` says: published ImageNet weights, those of an artefact named
by its digest, or the random ones that it was built with. Refuses: to go on with other weights than those asked for.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from inference import artefact
from inference.networks import Network, NetworkError, WeightsMissingError, load_imagenet, variables_by_path
from training.scenario import Scenario

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)


def start(network: Network, scenario: Scenario, folders: Sequence[Path]) -> None:
    """Fill a network that was just built.

    Args:
        network: As the scenario describes it, with random weights.
        scenario: The configuration.
        folders: Where files of weights and artefacts are looked for, in this order.

    Raises:
        WeightsMissingError: They are in none of the folders.
        NetworkError: They are damaged or belong to another network.
        ArtefactError: The artefact is damaged.
    """
    if scenario.weights == "none":
        return
    if not folders:
        raise WeightsMissingError(
            f"Scenario {scenario.name!r} starts from weights ({scenario.weights[:20]}); name their folder "
            "(--weights-dir)."
        )
    if scenario.weights == "imagenet":
        _start_imagenet(network, folders)
    else:
        _start_artefact(network, scenario, folders)


def _start_imagenet(network: Network, folders: Sequence[Path]) -> None:
    """From the first folder that has the file."""
    for folder in folders:
        try:
            load_imagenet(network, folder)
        except WeightsMissingError:
            if folder == folders[-1]:
                raise
        else:
            return


def _start_artefact(network: Network, scenario: Scenario, folders: Sequence[Path]) -> None:
    """From the artefact of this digest; its head is taken as well when it is the same for the same classes."""
    digest = scenario.weights.removeprefix("sha256:")
    path = _find(digest, folders)
    if path is None:
        raise WeightsMissingError(
            f"Scenario {scenario.name!r} starts from the artefact {digest[:12]}...; no {artefact.SUFFIX} file in "
            f"{', '.join(map(str, folders))} has this SHA-256. Put it there, or name another."
        )
    found = artefact.load(path, digest)
    description = found.manifest.network
    if description.name != network.name:
        raise NetworkError(
            f"{path.name} holds a {description.name!r}; scenario {scenario.name!r} trains {network.name!r}."
        )
    arrays = found.weights()
    if not _assign(network.backbone, arrays):
        raise NetworkError(f"{path.name} does not fit the backbone of {network.name!r}: it is of another version.")
    if tuple(found.manifest.class_names) == network.class_names and _assign(network.head, arrays):
        log.info("backbone and head start from %s", path.name)
    else:
        log.info("the backbone starts from %s, the head at random: its shape or classes are others", path.name)


def _assign(model: "keras.Model", arrays: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Assign all variables of a model; False, and none assigned, when any is missing or of another shape."""
    variables = variables_by_path(model)
    if not all(path in arrays and arrays[path].shape == tuple(v.shape) for path, v in variables.items()):
        return False
    for path, variable in variables.items():
        variable.assign(arrays[path].astype(np.float32))
    return True


def _find(digest: str, folders: Sequence[Path]) -> Path | None:
    for folder in folders:
        for path in sorted(folder.glob(f"*{artefact.SUFFIX}")):
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                    return path
    return None
